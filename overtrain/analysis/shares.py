"""Which task of a group carries its document variance. Groups weigh tasks equally unless asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.long import require

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["variance_shares"]


def variance_shares(documents: pd.DataFrame, task_weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Split the document variance of a group's mean among its tasks.

    A task of weight w with D documents contributes w^2 var / D: with equal weights a task of 100 documents (COPA) can
    carry most of it.

    Args:
        documents: scores of one cell: ``task``, ``y``, ``weight``.
        task_weights: weight of every task in the mean; equal without it.

    Returns:
        One row per task: ``task``, ``n_documents``, ``mean``, ``se``, ``task_weight`` (they sum to 1), ``share`` (of the
        group's document variance; they sum to 1).

    Raises:
        DataError: a task has one document, or no weight.
    """
    require(documents, ["task", "y", "weight"])
    rows = []
    for task, part in documents.dropna(subset=["y"]).groupby("task"):
        count = len(part)
        if count < 2:
            raise DataError(f"task {task!r} has one document; its variance cannot be estimated, score at least two")
        weight = part["weight"].to_numpy(float)
        y = part["y"].to_numpy(float)
        mean = float((y * weight).sum() / weight.sum())
        residual = weight * (y - mean) / weight.mean()
        rows.append((task, count, mean, float((residual**2).sum() / (count * (count - 1)))))
    table = pd.DataFrame(rows, columns=["task", "n_documents", "mean", "variance"])
    given = pd.Series(1.0, index=table["task"]) if task_weights is None else pd.Series(task_weights, dtype=float)
    table["task_weight"] = table["task"].map(given)
    if table["task_weight"].isna().any():
        task = table.loc[table["task_weight"].isna(), "task"].iloc[0]
        raise DataError(f"task {task!r} has no weight; give one for each of {', '.join(table['task'])}")
    table["task_weight"] /= table["task_weight"].sum()
    part_variance = table["task_weight"] ** 2 * table["variance"]
    total = float(part_variance.sum())
    table["share"] = part_variance / total if total > 0 else float("nan")
    table["se"] = table["variance"] ** 0.5
    return table[["task", "n_documents", "mean", "se", "task_weight", "share"]]
