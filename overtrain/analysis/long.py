"""The long form that every function on curves reads: one row per budget, run, seed and document.

Columns: ``budget`` (pre-training tokens, integer), ``run`` (the pre-training run), ``seed`` (of the modification; missing
for a base model), ``document``, ``y`` (score of one document; lower is better) and ``weight`` (tokens or bytes of a
ratio metric, 1 of a plain mean). A cell's metric is ``sum(y * weight) / sum(weight)``. A cell without a result is one row
with ``y`` missing, a cell that diverged one row with ``y`` infinite. Log-likelihoods are averaged as logarithms, never as
perplexities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError, close_match

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["COLUMNS", "group_average", "long_form", "oriented", "per_group", "require"]

COLUMNS = ("budget", "run", "seed", "document", "y", "weight")
"""Columns of the long form."""


def require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Check that ``frame`` has rows and all ``columns``.

    Raises:
        DataError: a column is missing, or there are no rows.
    """
    for column in columns:
        if column not in frame.columns:
            hint = close_match(column, [str(c) for c in frame.columns])
            raise DataError(f"the frame has no column {column!r}{hint}; it needs {', '.join(columns)}")
    if frame.empty:
        raise DataError("the frame has no rows; check the task, metric and variant that it was filtered by")


def long_form(
    runs: pd.DataFrame,
    documents: pd.DataFrame | None = None,
    *,
    task: str,
    metric: str,
    keep: Sequence[str] = (),
) -> pd.DataFrame:
    """Join the tidy frame of a study with its documents into the long form.

    Args:
        runs: rows of one variant (and of one value of every modification field that is not in ``keep``).
        documents: scores per document; without them each cell is one row without a document, and nothing downstream
            can say how much the choice of documents matters.
        task: as in ``runs``.
        metric: as in ``runs``.
        keep: further columns of ``runs`` to carry along, such as ``rate``.

    Returns:
        The long form, with ``keep`` and ``higher_is_better``; ``y`` counts as the metric does (see `oriented`).

    Raises:
        DataError: nothing matches, or two rows describe the same document of the same cell.
    """
    require(runs, ["cell_id", "tokens", "run", "seed", "task", "metric", "value", *keep])
    carried = [*keep, *(c for c in ("higher_is_better",) if c in runs.columns and c not in keep)]
    cells = runs.loc[(runs["task"] == task) & (runs["metric"] == metric)]
    if cells.empty:
        hint = close_match(task, sorted(set(runs["task"].dropna())))
        raise DataError(
            f"no rows of task {task!r} with metric {metric!r}{hint}; see the frame's task and metric columns"
        )
    cells = cells[["cell_id", "tokens", "run", "seed", "value", *carried]].rename(columns={"tokens": "budget"})
    if documents is None:
        joined = cells.rename(columns={"value": "y"}).assign(document=None, weight=1.0)
    else:
        require(documents, ["cell_id", "task", "metric", "document", "value", "weight"])
        scores = documents.loc[(documents["task"] == task) & (documents["metric"] == metric)]
        scores = scores[["cell_id", "document", "value", "weight"]].rename(columns={"value": "y"})
        infinite = cells.loc[np.isinf(cells["value"].to_numpy(float)), "cell_id"]
        scores = scores[~scores["cell_id"].isin(infinite)]
        joined = cells.drop(columns="value").merge(scores, on="cell_id", how="left")
        joined["y"] = joined["y"].where(~joined["cell_id"].isin(infinite), np.inf)
    return joined[[*COLUMNS, *carried]].reset_index(drop=True)


def oriented(frame: pd.DataFrame, higher_is_better: bool) -> pd.DataFrame:
    """Return ``frame`` with lower values better: ``y`` changes its sign where higher is better; infinity is always worst.

    Differences, standard errors and tests are those of the metric itself with the opposite sign.
    """
    require(frame, ["y"])
    if not higher_is_better:
        return frame
    return frame.assign(y=(-frame["y"]).where(~np.isinf(frame["y"].to_numpy(float)), np.inf))


def group_average(frame: pd.DataFrame, task_weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Merge the tasks of a group into one long form whose cells are the weighted mean of the tasks' cells.

    Tasks weigh equally unless ``task_weights`` says otherwise, whatever their numbers of documents. Documents are a
    stratified sample: the variance between tasks' means is no sampling error, so each document's score is taken about
    its task's mean, and its weight is that of its task divided among the task's documents. A cell that lacks a task is
    missing for the group.

    Args:
        frame: the long form with a column ``task``; ``budget``, ``run`` and ``seed`` name a cell.
        task_weights: positive weight of every task.

    Raises:
        DataError: a task has no weight.
    """
    require(frame, [*COLUMNS, "task"])
    tasks = sorted(set(frame["task"]))
    given = dict.fromkeys(tasks, 1.0) if task_weights is None else dict(task_weights)
    for task in tasks:
        if not given.get(task, 0.0) > 0:
            raise DataError(f"task {task!r} has no positive weight; give one for each of {', '.join(tasks)}")
    total = sum(given[task] for task in tasks)
    data = frame.assign(seed=frame["seed"].astype("Int64").fillna(-1))
    cell = ["budget", "run", "seed"]
    present = data.dropna(subset=["y"])
    complete = present.groupby(cell)["task"].nunique() == len(tasks)
    part = present.groupby([*cell, "task"])
    sums = part["weight"].transform("sum")
    mean = (present["y"] * present["weight"]).groupby([present[c] for c in [*cell, "task"]]).transform("sum") / sums
    count = part["weight"].transform("size").to_numpy(float)
    share = present["task"].map(given).to_numpy(float) / total
    spread = np.sqrt(count / np.maximum(count - 1, 1))
    weight = share * (present["weight"] / sums).to_numpy(float)
    centre = pd.Series(weight * mean.to_numpy(float), index=present.index)
    centre = centre.groupby([present[c] for c in cell]).transform("sum")
    merged = present.assign(
        y=centre + (present["y"] - mean) * spread,
        weight=weight,
        document=present["task"].astype(str) + "/" + present["document"].astype(str),
    )
    kept = merged.set_index(cell).index.isin(complete.index[complete])
    absent = data[cell].drop_duplicates().set_index(cell).index.difference(complete.index[complete])
    gaps = absent.to_frame(index=False).assign(document=None, y=np.nan, weight=np.nan)
    result = merged.loc[kept, list(COLUMNS)]
    result = pd.concat([result, gaps.astype({"y": float})]) if len(gaps) else result
    return result.assign(seed=result["seed"].replace(-1, pd.NA).astype("Int64")).reset_index(drop=True)


def per_group(frame: pd.DataFrame, by: Sequence[str], function: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """Apply ``function`` to each group of ``by`` and put the group's columns first; without ``by`` to all rows."""
    if not by:
        return function(frame)
    parts = []
    for key, part in frame.groupby(list(by), sort=True, dropna=False):
        result = function(part)
        named = pd.DataFrame({column: [value] * len(result) for column, value in zip(by, key, strict=True)})
        parts.append(pd.concat([named, result.reset_index(drop=True)], axis=1))
    return pd.concat(parts, ignore_index=True)
