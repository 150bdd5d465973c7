"""Win rates from preferences: ties count half, errors are clustered by instruction, missing items are counted and left out.

All probabilities come in as 0 to 1 and leave as percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WinRates", "clustered_stderr", "win_rates"]

_HIGHER_IS_BETTER = {"win_rate": True, "missing": False}


@dataclass(frozen=True)
class WinRates:
    """The win rate of one cell, with errors and counts.

    Attributes:
        rows: one per metric: task, metric, value, stderr, n_documents, higher_is_better. ``win_rate`` in percent;
            ``position_bias`` in percentage points, how much more than 50% the answer shown first wins; ``length`` and
            ``length_difference`` (answer minus reference) in characters; ``missing``, items without a preference.
        documents: columns, one value per document that has a preference: ``document``; ``win``, percent; ``first`` and
            ``second``, percent that the answer wins when it is shown first and second, NaN where that was not asked (with one
            order, and for equal answers, which win 50 unasked); ``length``; ``length_difference``.
    """

    rows: list[dict[str, Any]]
    documents: dict[str, np.ndarray[Any, Any]]


def win_rates(
    documents: Sequence[int],
    instructions: Sequence[str],
    wins: Sequence[tuple[float | None, float | None] | None],
    lengths: Sequence[tuple[int, int]],
) -> WinRates:
    """Return the win rate of a cell and what belongs to it.

    >>> found = win_rates([0, 1, 2], ["a", "b", "c"], [(0.9, 0.5), (None, None), None], [(10, 8), (3, 3), (1, 2)])
    >>> [(row["metric"], row["value"]) for row in found.rows]
    [('win_rate', 60.0), ('position_bias', 20.0), ('length', 6.5), ('length_difference', 1.0), ('missing', 1)]

    Args:
        documents: their numbers.
        instructions: what clusters the errors.
        wins: probability that the answer wins when shown first and when shown second, None for what was not asked; both None
            for equal answers. None for a document without all its preferences.
        lengths: of the answer and of the reference, in characters.
    """
    kept = [i for i, win in enumerate(wins) if win is not None]
    pairs = np.array([[np.nan if p is None else 100 * p for p in wins[i] or ()] for i in kept], float).reshape(-1, 2)
    first, second = pairs.T
    asked = ~np.isnan(pairs)
    judged, number = asked.any(axis=1), np.maximum(asked.sum(axis=1), 1)
    win = np.where(judged, np.where(asked, pairs, 0).sum(axis=1) / number, 50.0)
    bias = np.where(asked, np.stack([first - 50, 50 - second], axis=1), 0).sum(axis=1) / number
    size = np.array([lengths[i] for i in kept], np.int64).reshape(-1, 2)
    clusters = np.array([instructions[i] for i in kept], object)
    difference = size[:, 0] - size[:, 1]
    rows = [
        _row("win_rate", win, clusters),
        _row("position_bias", bias[judged], clusters[judged]),
        _row("length", size[:, 0], clusters),
        _row("length_difference", difference, clusters),
        {**_EMPTY, "metric": "missing", "value": len(wins) - len(kept), "n_documents": len(wins)},
    ]
    for row in rows:
        row["higher_is_better"] = _HIGHER_IS_BETTER.get(row["metric"])
    columns = {
        "document": np.array([documents[i] for i in kept], np.int64),
        "win": win,
        "first": first,
        "second": second,
    }
    return WinRates(rows, columns | {"length": size[:, 0], "length_difference": difference})


def clustered_stderr(values: np.ndarray[Any, Any], clusters: Sequence[Any] | np.ndarray[Any, Any]) -> float | None:
    """Return the standard error of a mean whose values are independent between clusters only; None for a single cluster.

    With clusters of one it is the usual ``s / sqrt(n)``.

    >>> round(clustered_stderr(np.array([1.0, 2.0, 6.0]), ["a", "b", "c"]), 6)  # sqrt(7 / 3)
    1.527525

    Source: the sandwich estimator of a mean, with the factor G / (G - 1) for G clusters.
    """
    _, codes = np.unique(np.asarray(clusters, object), return_inverse=True)
    number = int(codes.max()) + 1 if len(codes) else 0
    if number < 2:
        return None
    sums = np.bincount(codes, weights=values - values.mean())
    return float(np.sqrt(number / (number - 1) * np.sum(sums**2)) / len(values))


_EMPTY: dict[str, Any] = {"task": TASK, "metric": "", "value": None, "stderr": None, "n_documents": 0}


def _row(metric: str, values: np.ndarray[Any, Any], clusters: np.ndarray[Any, Any]) -> dict[str, Any]:
    if not len(values):
        return {**_EMPTY, "metric": metric}
    error = clustered_stderr(values, clusters)
    return {**_EMPTY, "metric": metric, "value": float(values.mean()), "stderr": error, "n_documents": len(values)}
