"""AlpacaEval's win rates beside a study's own results: what ``overtrain judge`` writes under ``judge/``.

``judge/scores.json`` has the rows of every judged cell and the references, ``judge/documents/<cell_id>.parquet`` one row per
instruction. This module alone reads and writes ``scores.json``. Cells that the study does not have any more are passed over.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping  # noqa: TC003  (annotations of records are read at run time)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole
from overtrain.common.typed_json import from_json, to_json
from overtrain.results.record import MetricRow  # noqa: TC001  (annotations of records are read at run time)
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from overtrain.results.record import CellRecord

__all__ = [
    "PER_DOCUMENT",
    "GroupRecord",
    "JudgeRecord",
    "JudgedCell",
    "JudgedRecord",
    "ReferenceRecord",
    "judged_documents",
    "read_judged",
    "write_judged",
]

FORMAT = 2
"""Of ``scores.json``. Format 1 called a reference's ``selected`` value ``learning_rate``."""

PER_DOCUMENT = {"win_rate": "win", "length_difference": "length_difference"}
"""Metric -> column of ``judge/documents``."""


@dataclass(frozen=True, kw_only=True)
class JudgeRecord:
    """The judge and its settings.

    Attributes:
        model: as the server names it.
        template: name of the prompt.
        template_sha256: of the prompt's text.
        orders: ``both``, or ``one`` of each pair.
        alpaca_eval: version of the package that the prompt comes from.
        both_tokens: whether both answers' tokens were counted by their ids; None where an earlier version did not say.
        backend: how the judge was asked: ``logprobs`` or ``sampled``.
        samples: of the judge's answer per question; None where log-probabilities were read.
    """

    model: str
    template: str
    template_sha256: str
    orders: str
    alpaca_eval: str | None = None
    both_tokens: bool | None = None
    backend: str = "logprobs"
    samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class ReferenceRecord:
    """The cell that a group was compared with.

    Attributes:
        cell_id: of the cell.
        label: of the cell.
        tokens: seen in pre-training.
        run: the pre-training run.
        seed: of the modifications.
        selected: value of the axis that a study chooses per checkpoint, such as the learning rate.
        default: whether nobody chose the reference.
    """

    cell_id: str
    label: str
    tokens: int
    run: str
    seed: int | None = None
    selected: float | None = None
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """One family and variant with its reference."""

    family: str
    variant: str
    reference: ReferenceRecord


@dataclass(frozen=True, kw_only=True)
class JudgedCell:
    """The judged results of one cell.

    Attributes:
        reference: ``cell_id`` of the cell that it was compared with; its own for a reference.
        documents: instructions.
        questions: that the judge was asked about them, earlier answers of the judge included.
        missing: instructions without a preference.
        missing_by_reason: their number by reason.
        equal: instructions with two equal answers, which nobody is asked about.
        broken_special: special tokens that were broken in the texts.
        samples: of the judge's answers that name one of the two, over all questions; 0 where log-probabilities were read.
        one_token: preferences for which the judge named one answer's token alone.
        rows: the metrics, the win rate first.
    """

    reference: str
    documents: int = 0
    questions: int = 0
    missing: int = 0
    missing_by_reason: Mapping[str, int] = field(default_factory=dict)
    equal: int = 0
    broken_special: int = 0
    one_token: int = 0
    samples: int = 0
    rows: tuple[MetricRow, ...]


@dataclass(frozen=True, kw_only=True)
class JudgedRecord:
    """The contents of ``judge/scores.json``.

    Attributes:
        judge: who judged.
        task: the task whose answers were judged.
        groups: family, variant and reference of each.
        cells: cell_id -> what was judged of the cell, references included.
    """

    judge: JudgeRecord
    task: str = TASK
    groups: tuple[GroupRecord, ...] = ()
    cells: Mapping[str, JudgedCell] = field(default_factory=dict)

    @property
    def references(self) -> frozenset[str]:
        """The ``cell_id`` of every reference."""
        return frozenset(group.reference.cell_id for group in self.groups)

    def rows(self, cell_id: str | None) -> tuple[MetricRow, ...]:
        """Return a cell's rows of metrics, none if it was not judged."""
        judged = self.cells.get(cell_id or "")
        return () if judged is None else judged.rows

    def metrics(self) -> dict[str, bool | None]:
        """Return metric -> whether higher is better, of all judged cells."""
        found: dict[str, bool | None] = {}
        for judged in self.cells.values():
            for row in judged.rows:
                found.setdefault(row.metric, row.higher_is_better)
        return found


def read_judged(root: Path, cells: Sequence[CellRecord]) -> JudgedRecord | None:
    """Return the judged results of the study in ``root``; None if nothing was judged.

    Args:
        root: the study's folder.
        cells: of the study.

    Raises:
        StoreError: the file is damaged, or was written by a newer version of this package.
    """
    path = root / "judge" / "scores.json"
    try:
        content = json.loads(path.read_bytes())
        if content["format"] > FORMAT:
            raise StoreError(
                f"{path} has format {content['format']}, and this version of lm-eval-overtrain reads formats 1 to {FORMAT}; "
                "install the version that wrote the file, or a newer one"
            )
        if content["format"] == 1:
            content = _migrate(content)
        found = from_json(JudgedRecord, {name: value for name, value in content.items() if name != "format"})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({error!r}); delete it and run `overtrain judge` again (its preferences are kept)"
        ) from error
    known = {cell.cell_id for cell in cells}
    return dataclasses.replace(found, cells={name: cell for name, cell in found.cells.items() if name in known})


def write_judged(root: Path, record: JudgedRecord) -> None:
    """Write ``judge/scores.json``.

    Raises:
        StoreError: the file cannot be written.
    """
    content = {"format": FORMAT, **to_json(record)}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(root / "judge" / "scores.json", text)


def _migrate(content: dict[str, Any]) -> dict[str, Any]:
    groups = []
    for group in content["groups"]:
        reference = dict(group["reference"])
        reference["selected"] = reference.pop("learning_rate", None)
        groups.append({**group, "reference": reference})
    return {**content, "groups": groups}


def judged_documents(root: Path, cell_id: str, judged: JudgedRecord) -> pa.Table | None:
    """Return task, metric, document, value and weight of one cell; None for a reference and for what was not judged.

    Instructions without a preference are left out.

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
            f"{path} cannot be read ({error!r}); run `overtrain judge` again (its preferences are kept)"
        ) from error
    wanted = next((row.value for row in judged.rows(cell_id) if row.metric == "win_rate"), None)
    found = parts[0][2].mean() if len(parts[0][2]) else None
    if (wanted is None) != (found is None) or (found is not None and abs(found - wanted) > 1e-6):
        raise StoreError(
            f"{path} is not of the scores beside it; run `overtrain judge` again (its preferences are kept)"
        )
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
