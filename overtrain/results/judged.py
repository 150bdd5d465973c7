"""AlpacaEval's win rates beside a study's own results: what ``overtrain judge`` wrote under ``judge/``.

``judge/scores.json`` has the rows of every judged cell and the references, ``judge/documents/<cell_id>.parquet`` one row per
instruction. Cells that the study does not have any more are passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

__all__ = ["PER_DOCUMENT", "Judged", "judged_documents", "read_judged"]

PER_DOCUMENT = {"win_rate": "win", "length_difference": "length_difference"}
"""Metric -> column of ``judge/documents``."""


@dataclass(frozen=True)
class Judged:
    """The contents of ``judge/scores.json``.

    Attributes:
        judge: model, template, orders.
        groups: family, variant and reference of each.
        cells: cell_id -> its rows, and what is missing.
    """

    judge: dict[str, Any] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def references(self) -> set[str]:
        """The ``cell_id`` of every reference."""
        return {str(group["reference"]["cell_id"]) for group in self.groups}

    def rows(self, cell_id: str | None) -> list[dict[str, Any]]:
        """Return a cell's rows of metrics, none if it was not judged."""
        return list(self.cells.get(cell_id or "", {}).get("rows", []))

    def metrics(self) -> dict[str, Any]:
        """Return metric -> whether higher is better, of all judged cells."""
        found: dict[str, Any] = {}
        for about in self.cells.values():
            for row in about["rows"]:
                found.setdefault(row["metric"], row["higher_is_better"])
        return found

    def describe(self) -> dict[str, Any] | None:
        """Return judge and groups for a report, None where nothing was judged."""
        return {"judge": self.judge, "groups": self.groups} if self.cells else None


def read_judged(root: Path, entries: list[dict[str, Any]]) -> Judged:
    """Return what was judged of the study in ``root``; empty if nothing was.

    Args:
        root: the study's folder.
        entries: cells of the study.

    Raises:
        StoreError: the file is damaged.
    """
    path = root / "judge" / "scores.json"
    try:
        content = json.loads(path.read_bytes())
        known = {entry["cell_id"] for entry in entries if entry["cell_id"]}
        return Judged(
            judge=dict(content["judge"]),
            groups=[dict(group, reference=dict(group["reference"])) for group in content["groups"]],
            cells={
                cell_id: {**about, "rows": _rows(about)}
                for cell_id, about in content["cells"].items()
                if cell_id in known
            },
        )
    except FileNotFoundError:
        return Judged()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({error!r}); delete it and run `overtrain judge` again (its verdicts are kept)"
        ) from error


def _rows(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = ("task", "metric", "value", "stderr", "n_documents", "higher_is_better")
    return [{name: row[name] for name in names} for row in about["rows"]]


def judged_documents(root: Path, cell_id: str, judged: Judged) -> pa.Table | None:
    """Return task, metric, document, value and weight of one cell; None for a reference and for what was not judged.

    Instructions without a verdict are left out.

    Raises:
        StoreError: the file is missing or damaged, or not of the scores beside it.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    if cell_id not in judged.cells or cell_id in judged.references:
        return None
    path = root / "judge" / "documents" / f"{cell_id}.parquet"
    try:
        table = pq.read_table(path, columns=["document", *PER_DOCUMENT.values()])
        parts = []
        for metric, column in PER_DOCUMENT.items():
            values = table[column].to_numpy().astype(float)
            known = np.isfinite(values)
            parts.append((metric, table["document"].to_numpy()[known], values[known]))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} cannot be read ({error!r}); run `overtrain judge` again (its verdicts are kept)"
        ) from error
    wanted = next((r["value"] for r in judged.rows(cell_id) if r["metric"] == "win_rate"), None)
    found = parts[0][2].mean() if len(parts[0][2]) else None
    if (wanted is None) != (found is None) or (found is not None and abs(found - wanted) > 1e-6):
        raise StoreError(f"{path} is not of the scores beside it; run `overtrain judge` again (its verdicts are kept)")
    counts = [len(values) for _, _, values in parts]
    words = np.repeat(np.arange(len(parts), dtype=np.int32), counts)
    metrics = pa.DictionaryArray.from_arrays(pa.array(words), pa.array([name for name, _, _ in parts], pa.string()))
    tasks = pa.DictionaryArray.from_arrays(pa.array(np.zeros(sum(counts), np.int32)), pa.array([TASK], pa.string()))
    columns = {
        "task": tasks,
        "metric": metrics,
        "document": pa.array(np.concatenate([d for _, d, _ in parts]).astype(np.int64)),
        "value": pa.array(np.concatenate([v for _, _, v in parts])),
        "weight": pa.array(np.ones(sum(counts))),
    }
    return pa.table(columns)
