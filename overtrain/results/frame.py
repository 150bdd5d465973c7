"""A study's results as two tidy frames: one row per cell x task x metric, and one per document beside it.

``load_runs("runs/demo")`` needs the study's folder and nothing else. Cells without a result are rows too, with ``status``
``missing`` or ``failed`` and no value, so nothing averages over them silently.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from model_wrappers.errors import StoreError
from overtrain.common.reasons import last_line
from overtrain.results.judged import judged_documents, read_judged
from overtrain.results.metrics import TRAINING
from overtrain.results.record import MetricRow
from overtrain.results.store import CellState, Store
from overtrain.results.study_file import read_metrics, read_study
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from overtrain.common.typed_json import Value
    from overtrain.results.judged import JudgedRecord
    from overtrain.results.record import CellRecord, StudyRecord

__all__ = ["COLUMNS", "MARKS", "load_documents", "load_judged", "load_runs", "load_study"]

COLUMNS = (
    *("study", "cell_id", "weights_id", "status", "checkpoint", "family", "run", "tokens", "checkpoint_learning_rate"),
    *(
        "variant",
        "modification",
        "category",
        "seed",
        "task",
        "metric",
        "value",
        "stderr",
        "n_documents",
        "higher_is_better",
    ),
)
"""Columns of `load_runs`, before those of the modifications' fields."""

MARKS = ("reference", "reference_only", "reason")
"""Columns of `load_runs` after those, where AlpacaEval has a reference or a cell has no result: see there."""

_LABELS = (
    *("checkpoint", "family", "run", "tokens", "checkpoint_learning_rate"),
    *("variant", "modification", "category", "seed"),
)


def load_study(path: str | Path) -> StudyRecord:
    """Return the study's record from the last sweep.

    Raises:
        StoreError: there is no study in this folder, or its ``study.json`` is damaged or of a newer version.
    """
    root = Path(path)
    record = read_study(root)
    if record is None:
        there = sorted(p.parent.name for p in root.glob("*/study.json")) if root.is_dir() else []
        hint = f"; studies in it: {', '.join(there)}" if there else ""
        raise StoreError(f"{root} holds no study (no study.json){hint}; run `overtrain sweep FILE` first")
    return record


def load_judged(path: str | Path) -> JudgedRecord | None:
    """Return the judge, the references and the win rates of a study; None if nothing was judged.

    Raises:
        StoreError: there is no study in this folder, or one of its files is not what was written.
    """
    judged = read_judged(Path(path), load_study(path).cells)
    return judged if judged is not None and judged.cells else None


def load_runs(path: str | Path) -> pd.DataFrame:
    """Return one row per cell x task x metric of the study in ``path``.

    Columns: study, cell_id, weights_id, status (done, diverged, failed, cancelled,
    missing), checkpoint, family, run, tokens (int64),
    checkpoint_learning_rate (of the pre-training, NaN if unknown), variant, modification, category (base, noise,
    finetune, ..., other), seed (Int64, missing for base),
    task, metric, value, stderr (over documents), n_documents (Int64), higher_is_better; then one column per field of a
    modification (``gamma``, ``learning_rate``, ...), missing where it does not apply. What training reports has the task
    ``training``. A cell without a result has a row for every task and metric that the others have. So has a cell that
    diverged; its values are the worst there are: infinite, or minus infinite where higher is better.

    Where answers were judged (``overtrain judge``), their win rates are rows of the task ``overtrain_alpaca_eval``, without a
    value for cells that were not judged, and ``reference`` (bool) marks the cells that the others are compared with.
    ``reference_only`` (bool) is there where the study has a reference with a seed of its own, which is on no curve.
    ``reason`` (text) is there where a cell failed, diverged or cannot be evaluated, and says why in one line.

    Raises:
        StoreError: there is no study in this folder, or one of its files is not what was written.
    """
    root = Path(path)
    study = load_study(root)
    store = Store(root)
    judged = read_judged(root, study.cells)
    found_states = [store.state(cell.cell_id) if cell.cell_id else CellState("missing") for cell in study.cells]
    states = [state.status for state in found_states]
    measured = [
        read_metrics(store.read(cell.cell_id, "metrics.json")) if cell.cell_id and status == "done" else ()
        for cell, status in zip(study.cells, states, strict=True)
    ]
    known = _known_metrics(study.cells, measured)
    win_rates = {} if judged is None else judged.metrics()
    numbers: list[int] = []
    rows: list[MetricRow | None] = []
    for number, (cell, own) in enumerate(zip(study.cells, measured, strict=True)):
        found = list(own) or _absent(known, cell)
        if states[number] == "diverged":
            found = [dataclasses.replace(row, value=_worst(row)) for row in found]
        found += _judged_rows(found, cell, () if judged is None else judged.rows(cell.cell_id), win_rates)
        numbers += [number] * max(1, len(found))
        rows += found or [None]
    cells = pd.DataFrame([_columns(study.name, c, status) for c, status in zip(study.cells, states, strict=True)])
    references = () if judged is None else judged.references
    marks = {
        "reference": cells["cell_id"].isin(references).to_numpy(bool),
        "reference_only": np.array([cell.reference_only for cell in study.cells], bool),
    }
    reasons = [_reason(*pair) for pair in zip(study.cells, found_states, strict=True)]
    frame = cells.iloc[numbers].reset_index(drop=True)
    scores = {name: [None if row is None else getattr(row, name) for row in rows] for name in _SCORES}
    frame = pd.concat([frame, pd.DataFrame(scores, columns=list(_SCORES))], axis=1)
    fields = [name for name in cells.columns if name not in COLUMNS]
    shown = {name: mark[numbers] for name, mark in marks.items() if mark.any()}
    said = {"reason": np.array(reasons, object)[numbers]} if any(reasons) else {}
    return _typed(frame[[*COLUMNS, *fields]]).assign(**shown, **said)


def _reason(cell: CellRecord, state: CellState) -> str:
    """Return why a cell has no result, on one line; empty for one that has, or that was not run yet."""
    if state.status in {"failed", "diverged"}:
        return last_line(state.reason)
    return (cell.problem or "") if state.status == "missing" else ""


def _worst(row: MetricRow) -> float | None:
    """Return the value of a diverged cell; None if neither direction is better, as for a distance."""
    if row.higher_is_better is None:
        return None
    return -math.inf if row.higher_is_better else math.inf


_SCORES = ("task", "metric", "value", "stderr", "n_documents", "higher_is_better")


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
    study = load_study(path)
    judged = read_judged(Path(path), study.cells)
    for cell in study.cells:
        cell_id = cell.cell_id
        if not cell_id or (cells is not None and cell_id not in cells) or store.state(cell_id).status != "done":
            continue
        table = pq.read_table(pa.BufferReader(store.read(cell_id, "documents.parquet")))
        verdicts = None if judged is None else judged_documents(Path(path), cell_id, judged)
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


def _columns(study: str, cell: CellRecord, status: str) -> dict[str, Value]:
    """Return a cell's labels, identities and fields as columns of the frame."""
    about: dict[str, Value] = {
        "study": study,
        "cell_id": cell.cell_id or f"unknown-{cell.key[:12]}",
        "weights_id": cell.weights_id,
        "status": status,
    }
    about |= {name: getattr(cell, name) for name in _LABELS}
    return about | {name if name not in COLUMNS else f"{name}_2": value for name, value in cell.fields.items()}


_Known = dict[tuple[str, str, str | None], bool | None]
"""(task, metric, variant) -> whether higher is better; the variant for training alone."""


def _known_metrics(cells: Sequence[CellRecord], measured: Sequence[Sequence[MetricRow]]) -> _Known:
    """Return the metrics that finished cells measured."""
    known: _Known = {}
    for cell, rows in zip(cells, measured, strict=True):
        for row in rows:
            known.setdefault(
                (row.task, row.metric, cell.variant if row.task == TRAINING else None), row.higher_is_better
            )
    return known


def _absent(known: _Known, cell: CellRecord) -> list[MetricRow]:
    """Return the rows, without values, of a cell that has no result; one that answers nothing has none of `TASK`."""
    return [
        MetricRow(task=task, metric=metric, higher_is_better=better)
        for (task, metric, only), better in known.items()
        if only in {None, cell.variant} and (task == TASK or not cell.reference_only) and (task != TASK or cell.answers)
    ]


def _judged_rows(
    own: Sequence[MetricRow], cell: CellRecord, judged: Sequence[MetricRow], metrics: Mapping[str, bool | None]
) -> list[MetricRow]:
    """Return a cell's rows of win rates, without values if it was not judged; what it measured itself stays."""
    if not cell.answers:
        return []
    there = {row.metric for row in own if row.task == TASK}
    rows = judged or [
        MetricRow(task=TASK, metric=metric, higher_is_better=better) for metric, better in metrics.items()
    ]
    return [row for row in rows if row.metric not in there]


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
