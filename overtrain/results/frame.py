"""A study's results as two tidy frames: one row per cell x task x metric, and one per document beside it.

``load_runs("runs/demo")`` needs the study's folder and nothing else. Cells without a result are rows too, with ``status``
``missing`` or ``failed`` and no value, so nothing averages over them silently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from model_wrappers.errors import StoreError
from overtrain.results.judged import judged_documents, read_judged
from overtrain.results.manifest import read_manifest
from overtrain.results.metrics import TRAINING
from overtrain.results.store import Store
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Collection

    from overtrain.results.judged import Judged

__all__ = ["COLUMNS", "MARKS", "load_documents", "load_runs", "load_study"]

COLUMNS = (
    *("study", "cell_id", "weights_id", "status", "checkpoint", "family", "run", "tokens", "checkpoint_learning_rate"),
    *("variant", "modification", "seed", "task", "metric", "value", "stderr", "n_documents", "higher_is_better"),
)
"""Columns of `load_runs`, before those of the modifications' fields."""

MARKS = ("reference", "reference_only")
"""Columns of `load_runs` after those, where AlpacaEval has a reference: see there."""

_LABELS = ("checkpoint", "family", "run", "tokens", "checkpoint_learning_rate", "variant", "modification", "seed")


def load_study(path: str | Path) -> dict[str, Any]:
    """Return what the study said of itself when it was last swept.

    Keys: name, description, tasks, seeds, variants (name -> axes), budgets, select, reference, judge, primary,
    plateau_margin; and ``judged`` where answers have been: the judge, and the reference of every family and variant.

    Raises:
        StoreError: there is no study in this folder.
    """
    manifest = _manifest(Path(path))
    judged = read_judged(Path(path), manifest["cells"]).describe()
    return dict(manifest["study"]) | ({} if judged is None else {"judged": judged})


def load_runs(path: str | Path) -> pd.DataFrame:
    """Return one row per cell x task x metric of the study in ``path``.

    Columns: study, cell_id, weights_id, status (done, failed, cancelled, missing), checkpoint, family, run, tokens (int64),
    checkpoint_learning_rate (of the pre-training, NaN if unknown), variant, modification, seed (Int64, missing for base),
    task, metric, value, stderr (over documents), n_documents (Int64), higher_is_better; then one column per field of a
    modification (``gamma``, ``learning_rate``, ...), missing where it does not apply. What training reports has the task
    ``training``. A cell without a result has a row for every task and metric that the others have.

    Where answers were judged (``overtrain judge``), their win rates are rows of the task ``overtrain_alpaca_eval``, without a
    value for cells that were not judged, and ``reference`` (bool) marks the cells that the others are compared with.
    ``reference_only`` (bool) is there where the study has a reference with a seed of its own, which is on no curve.

    Raises:
        StoreError: there is no study in this folder, or one of its files is not what was written.
    """
    root = Path(path)
    manifest = _manifest(root)
    store = Store(root)
    entries = manifest["cells"]
    judged = read_judged(root, entries)
    found: list[tuple[dict[str, Any], str, list[dict[str, Any]]]] = []
    for entry in entries:
        status = store.state(entry["cell_id"]).status if entry["cell_id"] else "missing"
        rows = json.loads(store.read(entry["cell_id"], "metrics.json")) if status == "done" else []
        found.append((entry, status, rows))
    known = _known_metrics(found)
    win_rates = judged.metrics()
    numbers: list[int] = []
    scores: list[dict[str, Any]] = []
    for number, (entry, _, rows) in enumerate(found):
        own = rows or _absent(known, entry)
        own = [*own, *_judged_rows(own, entry, judged, win_rates)] or [{"task": None, "metric": None}]
        numbers += [number] * len(own)
        scores += own
    cells = pd.DataFrame([_cell(manifest["study"]["name"], entry, status) for entry, status, _ in found])
    marks = {
        "reference": cells["cell_id"].isin(judged.references).to_numpy(bool),
        "reference_only": np.array([bool(entry.get("reference_only")) for entry in entries], bool),
    }
    frame = cells.iloc[numbers].reset_index(drop=True)
    frame = pd.concat([frame, pd.DataFrame(scores, columns=["task", "metric", *_NUMBERS])], axis=1)
    fields = [name for name in cells.columns if name not in COLUMNS]
    shown = {name: mark[numbers] for name, mark in marks.items() if mark.any()}
    return _typed(frame[[*COLUMNS, *fields]]).assign(**shown)


_NUMBERS = ("value", "stderr", "n_documents", "higher_is_better")


def load_documents(
    path: str | Path,
    *,
    tasks: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
    cells: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return one row per cell x task x metric x document: cell_id, task, metric, document (int64), value, weight.

    ``sum(value * weight) / sum(weight)`` over the documents of a cell's metric is the metric. The first three columns are
    categorical, because there are millions of rows.

    Args:
        path: the study's folder.
        tasks: only these.
        metrics: only these.
        cells: only these ``cell_id``.

    Raises:
        StoreError: there is no study in this folder, or one of its files is not what was written.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    store = Store(Path(path))
    tables = []
    entries = _manifest(Path(path))["cells"]
    judged = read_judged(Path(path), entries)
    for entry in entries:
        cell_id = entry["cell_id"]
        if not cell_id or (cells is not None and cell_id not in cells) or store.state(cell_id).status != "done":
            continue
        table = pq.read_table(pa.BufferReader(store.read(cell_id, "documents.parquet")))
        verdicts = judged_documents(Path(path), cell_id, judged)
        for part in (table, *([] if verdicts is None else [verdicts.cast(table.schema)])):
            kept = part
            for column, wanted in (("task", tasks), ("metric", metrics)):
                if wanted is not None:
                    chosen = pa.array(sorted(wanted), pa.string())
                    kept = kept.filter(pc.is_in(kept[column].cast(pa.string()), value_set=chosen))
            codes = pa.array(np.zeros(len(kept), np.int32))
            name = pa.DictionaryArray.from_arrays(codes, pa.array([cell_id], pa.string()))
            tables.append(kept.add_column(0, "cell_id", name))
    if not tables:
        return _no_documents()
    whole = pa.concat_tables(tables).unify_dictionaries()
    del tables
    frame: pd.DataFrame = whole.to_pandas(split_blocks=True, self_destruct=True)
    return frame


def _no_documents() -> pd.DataFrame:
    words = pd.Series([], dtype="category")
    return pd.DataFrame(
        {
            "cell_id": words,
            "task": words,
            "metric": words,
            "document": pd.Series([], dtype="int64"),
            "value": pd.Series([], dtype="float64"),
            "weight": pd.Series([], dtype="float64"),
        }
    )


def _manifest(root: Path) -> dict[str, Any]:
    content = read_manifest(root)
    if content is None:
        there = sorted(p.parent.name for p in root.glob("*/study.json")) if root.is_dir() else []
        hint = f"; studies in it: {', '.join(there)}" if there else ""
        raise StoreError(f"{root} holds no study (no study.json){hint}; run `overtrain sweep FILE` first")
    return content


def _cell(study: str, entry: dict[str, Any], status: str) -> dict[str, Any]:
    about = {
        "study": study,
        "cell_id": entry["cell_id"] or f"unknown-{entry['key'][:12]}",
        "weights_id": entry["weights_id"],
        "status": status,
    }
    about |= {name: entry[name] for name in _LABELS}
    return about | {name if name not in COLUMNS else f"{name}_2": value for name, value in entry["fields"].items()}


def _known_metrics(
    found: list[tuple[dict[str, Any], str, list[dict[str, Any]]]],
) -> dict[tuple[str, str, str | None], Any]:
    """Return (task, metric, variant) -> whether higher is better, of finished cells; the variant only for training."""
    known: dict[tuple[str, str, str | None], Any] = {}
    for entry, _, rows in found:
        for row in rows:
            variant = entry["variant"] if row["task"] == TRAINING else None
            known.setdefault((row["task"], row["metric"], variant), row["higher_is_better"])
    return known


def _absent(known: dict[tuple[str, str, str | None], Any], entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows, without values, of a cell that has no result; one that answers nothing has none of `TASK`."""
    return [
        {"task": task, "metric": metric, "higher_is_better": better}
        for (task, metric, only), better in known.items()
        if only in {None, entry["variant"]}
        and (task == TASK or not entry.get("reference_only"))
        and (task != TASK or entry.get("answers"))
    ]


def _judged_rows(
    own: list[dict[str, Any]], entry: dict[str, Any], judged: Judged, metrics: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return a cell's rows of win rates, without values if it was not judged; what it measured itself stays."""
    if not entry.get("answers"):
        return []
    there = {row["metric"] for row in own if row["task"] == TASK}
    rows = judged.rows(entry["cell_id"]) or [
        {"task": TASK, "metric": metric, "higher_is_better": better} for metric, better in metrics.items()
    ]
    return [row for row in rows if row["metric"] not in there]


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds = {
        "tokens": "int64",
        "checkpoint_learning_rate": "float64",
        "seed": "Int64",
        "value": "float64",
        "stderr": "float64",
        "n_documents": "Int64",
    }
    for name in frame.columns[len(COLUMNS) :]:
        values = [v for v in frame[name] if v is not None]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            kinds[str(name)] = "float64"
    return frame.astype(kinds)
