"""A/A checks on real cells: comparisons whose true difference is zero, or as good as.

Two halves of the seeds; a sham modification, or a learning rate near 0, against the base; adjacent checkpoints. A study
that fails them has a variance that its tests do not see.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.adjust import holm
from overtrain.analysis.compare import compare
from overtrain.analysis.contrasts import divide
from overtrain.analysis.curves import summarise
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group
from overtrain.analysis.sensitivity import sensitivity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["adjacent", "failed_checks", "halves", "sham"]


def halves(frame: pd.DataFrame, *, by: Sequence[str] = (), level: float = 0.05) -> pd.DataFrame:
    """Compare the first half of the seeds (or runs) with the second at every budget.

    What a seed adds at every budget is removed first: it cancels in every difference of budgets, and three seeds could
    not tell it from a difference of halves. The variance is that within halves, pooled over budgets and never below the
    budget's own; budgets are adjusted by Bonferroni.

    Returns:
        One row per group: ``statistic`` (largest over budgets), ``critical``, ``passed``, ``n_first``, ``n_second``,
        ``missing``.

    Raises:
        DataError: fewer than three seeds, or budgets that do not share them.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        layout = assemble(part)
        budgets, units = layout.cells.shape
        if units < 3 or not layout.paired:
            raise DataError(
                f"halves need two budgets or more that share three seeds or more, there are {budgets} budgets with "
                f"{units} seeds; add seeds"
            )
        cells = layout.cells - layout.cells.mean(axis=0)
        parts = [cells[:, : units // 2], cells[:, units // 2 :]]
        squares = sum(((half - half.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) for half in parts)
        freedom = (budgets - 1) * (units - 2)
        variance = np.maximum(squares * budgets, squares.sum()) / freedom
        error = np.sqrt(variance * (1 - 1 / budgets) * sum(1 / half.shape[1] for half in parts))
        difference = parts[1].mean(axis=1) - parts[0].mean(axis=1)
        statistic = float(np.abs(divide(difference, error)).max())
        critical = float(stats.t.ppf(1 - level / (2 * budgets), freedom))
        return pd.DataFrame(
            {
                "statistic": [statistic],
                "critical": [critical],
                "passed": [statistic <= critical],
                "n_first": [parts[0].shape[1]],
                "n_second": [parts[1].shape[1]],
                "missing": ["; ".join(layout.missing)],
            }
        )

    return per_group(frame, by, one)


def sham(modified: pd.DataFrame, base: pd.DataFrame, level: float = 0.05) -> pd.DataFrame:
    """Check that a modification which should do nothing does nothing: its sensitivity is 0 at every budget.

    Args:
        modified: long form of a sham modification, or of a learning rate near 0.
        base: long form of the unmodified checkpoints.
        level: of all budgets together (Bonferroni).

    Returns:
        One row per budget: ``budget``, ``mean``, ``low``, ``high`` (simultaneous), ``passed`` (0 lies in the
        interval; missing where there is no interval), ``missing``.
    """
    difference = sensitivity(modified, base)
    budgets = int(difference["budget"].nunique())
    table = summarise(difference, level=level / budgets)
    inside = ((table["low"] <= 0) & (table["high"] >= 0)).astype("boolean").where(table["se"].notna())
    return table.assign(passed=inside)[["budget", "mean", "low", "high", "passed", "missing"]]


def adjacent(frame: pd.DataFrame, tolerance: float = 0.02, level: float = 0.05) -> pd.DataFrame:
    """Compare neighbouring checkpoints, each within ``tolerance`` (a share) of the tokens of the one before.

    Returns:
        The rows of `overtrain.analysis.compare.compare` with ``p_holm`` and ``passed``.

    Raises:
        DataError: no two budgets are that close.
    """
    budgets = assemble(frame).budgets
    close = [(a, b) for a, b in itertools.pairwise(budgets) if b - a <= tolerance * a]
    if not close:
        raise DataError(f"no two budgets lie within {tolerance:.0%} of each other; evaluate neighbours of a checkpoint")
    table = pd.concat([compare(frame, a, b, level=level) for a, b in close], ignore_index=True)
    return holm(table, level=level).assign(passed=lambda t: ~t["significant"]).drop(columns="significant")


def failed_checks(
    claims: pd.DataFrame, checks: Mapping[str, pd.DataFrame], *, on: Sequence[str] = ("family", "line")
) -> pd.Series:
    """Say beside each claim which A/A checks of its curve failed.

    A check of a curve is made on one endpoint and concerns all of them: they share the models. It says nothing about other
    curves.

    Args:
        claims: one row per claim, with the columns ``on``.
        checks: frames of checks with ``passed`` and the columns ``on``, each under what its failure means, in words. A check
            without a result (missing) has not failed.
        on: columns that name a curve.

    Returns:
        The failures in words, joined by semicolons, empty where none failed, with the index of ``claims``.
    """
    failures: dict[tuple[object, ...], list[str]] = {}
    for meaning, table in checks.items():
        if table.empty:
            continue
        failed = table[~table["passed"].astype("boolean").fillna(True).astype(bool)]
        for key in failed[list(on)].drop_duplicates().itertuples(index=False, name=None):
            failures.setdefault(key, []).append(meaning)
    keys = claims[list(on)].itertuples(index=False, name=None)
    return pd.Series(["; ".join(failures.get(key, [])) for key in keys], index=claims.index, dtype=object)
