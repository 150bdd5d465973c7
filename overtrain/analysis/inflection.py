"""Does a curve rise again, is it a U, and where is its minimum? CurveTests use the order of budgets only.

All functions read the long form of one curve (lower is better) and return one row, or one row per budget. Critical values
are simulated for the design at hand: its budgets, seeds, runs and documents. For 6 budgets x 3 seeds, seed noise alone
and the pooled variance, they are 3.05 for a rise and 2.50 for the confidence set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from overtrain.analysis.contrasts import SIMULATIONS, Contrasts, Selection, maxima, pairs
from overtrain.analysis.layout import Layout, assemble
from overtrain.analysis.long import per_group
from overtrain.analysis.unimodal import mean_variances, valley

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Array

__all__ = [
    "LEVEL",
    "CurveTests",
    "confidence_set",
    "critical_values",
    "first_rise",
    "inflection_point",
    "interval",
    "rise",
    "selections",
    "u_shape",
]

LEVEL = 0.05
"""Chance of a false rise, and one minus the confidence of the set of minima."""


@dataclass(frozen=True)
class CurveTests:
    """A curve with its pairwise statistics and the values that they must exceed; what the public functions share.

    Attributes:
        layout: the curve.
        level: of every test.
        pooled: see `overtrain.analysis.contrasts.unit_variance`.
        seed: of the simulation.
        null_maxima: distribution of the maxima under equal budgets, shape (draws, 2 + budgets): of all rises, of the
            adjacent rises, and for each k of ``m_k - m_j``. Simulated unless it is given.
    """

    layout: Layout
    level: float = LEVEL
    pooled: bool = False
    seed: int = 0
    null_maxima: Array | None = None

    @cached_property
    def contrasts(self) -> Contrasts:
        """All ``m_j - m_i`` with ``i < j``."""
        return Contrasts(self.layout, pairs(len(self.layout.budgets))[0], self.pooled)

    @cached_property
    def known(self) -> bool:
        """Whether there are two budgets and a standard error."""
        return len(self.layout.budgets) > 1 and bool(np.isfinite(self.contrasts.errors).all())

    @cached_property
    def square(self) -> Array:
        """``(m_j - m_i) / se_ij`` at [i, j], antisymmetric, shape (budgets, budgets)."""
        budgets = len(self.layout.budgets)
        table = np.zeros((budgets, budgets))
        first, second = pairs(budgets)[1]
        table[first, second] = self.contrasts.statistics
        table[second, first] = -self.contrasts.statistics
        return table

    @cached_property
    def null(self) -> Array:
        """``null_maxima``, simulated for this design unless it was given."""
        if self.null_maxima is not None:
            return self.null_maxima
        return maxima(self.contrasts, selections(len(self.layout.budgets)), self.seed, SIMULATIONS)

    @cached_property
    def critical(self) -> Array:
        """Upper quantiles of ``null``, shape (2 + budgets,); infinite where budgets whose scores are equal leave no error."""
        with np.errstate(invalid="ignore"):
            found = np.quantile(self.null, 1 - self.level, axis=0)
        return np.where(np.isnan(found), np.inf, found)

    def p_value(self, statistic: float) -> float:
        """Share of simulated curves whose largest rise is at least ``statistic`` (that of a fall is the same)."""
        return float((1 + (self.null[:, 0] >= statistic).sum()) / (1 + len(self.null)))

    @cached_property
    def largest_rise(self) -> tuple[float, int, int]:
        """Statistic of the largest rise and its two budgets' indices."""
        return _largest(np.triu(self.square, 1))

    @cached_property
    def largest_fall(self) -> tuple[float, int, int]:
        """Statistic of the largest fall and its two budgets' indices."""
        return _largest(np.triu(-self.square, 1))

    @cached_property
    def fall_then_rise(self) -> tuple[float, int]:
        """Largest over k of the smaller of the largest fall up to k and the largest rise from k on, and that k."""
        upper = np.triu(self.square, 1)
        falls = np.maximum.accumulate((-upper).max(axis=0))
        rises = np.maximum.accumulate(upper.max(axis=1)[::-1])[::-1]
        smaller = np.minimum(falls, rises)
        return float(smaller.max()), int(smaller.argmax())

    @cached_property
    def worst(self) -> Array:
        """For each k, the largest ``(m_k - m_j) / se`` over j, shape (budgets,)."""
        table = self.square.copy()
        np.fill_diagonal(table, -np.inf)
        return np.asarray(table.max(axis=0))

    @cached_property
    def kept(self) -> Array:
        """Budgets that may hold the minimum, shape (budgets,), boolean; all of them where nothing is known."""
        budgets = len(self.layout.budgets)
        return np.asarray(self.worst <= self.critical[2:]) if self.known else np.ones(budgets, bool)


def selections(budgets: int) -> list[Selection]:
    """Return the rows and signs of `pairs` whose maxima are `CurveTests.null_maxima`."""
    first, second = pairs(budgets)[1]
    every = np.arange(len(first))
    adjacent = every[second == first + 1]
    groups: list[Selection] = [(every, np.ones(len(every))), (adjacent, np.ones(len(adjacent)))]
    for k in range(budgets):
        rows = every[(first == k) | (second == k)]
        groups.append((rows, np.where(second[rows] == k, 1.0, -1.0)))
    return groups


def _largest(table: Array) -> tuple[float, int, int]:
    i, j = np.unravel_index(int(table.argmax()), table.shape)
    return float(table[i, j]), int(i), int(j)


def _tests(frame: pd.DataFrame, level: float, pooled: bool, seed: int) -> CurveTests:
    return CurveTests(assemble(frame), level, pooled, seed)


def critical_values(
    budgets: int, seeds: int, level: float = LEVEL, *, paired: bool = True, pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Return the critical values of a design with seed noise alone.

    Args:
        budgets: number of budgets.
        seeds: seeds (or, with several, runs) at each budget.
        level: of the tests.
        paired: whether budgets share their seeds.
        pooled: see `overtrain.analysis.contrasts.unit_variance`.
        seed: of the simulation.

    Returns:
        One row: ``rise``, ``adjacent`` and ``confidence_set`` (mean over budgets, which differ by simulation error).
    """
    cells = np.random.default_rng(seed).standard_normal((budgets, seeds))
    layout = Layout(
        tuple(range(1, budgets + 1)), cells, paired, None, np.zeros((budgets,) * 2), np.zeros(budgets), 1, seeds, 1, ()
    )
    critical = CurveTests(layout, level, pooled, seed).critical
    return pd.DataFrame(
        {"rise": [critical[0]], "adjacent": [critical[1]], "confidence_set": [float(critical[2:].mean())]}
    )


def rise(
    frame: pd.DataFrame, level: float = LEVEL, *, by: Sequence[str] = (), pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Test whether the curve rises anywhere: T = max over i < j of (m_j - m_i) / se_ij against all budgets equal.

    Returns:
        One row per group: ``statistic``, ``critical``, ``p_value``, ``established``, ``from_budget``, ``to_budget`` and
        ``increase``. Values are missing where no standard error can be estimated.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        tests = _tests(part, level, pooled, seed)
        if not tests.known:
            return _unknown("statistic", "critical", "p_value", "established", "from_budget", "to_budget", "increase")
        value, i, j = tests.largest_rise
        layout = tests.layout
        return _row(
            statistic=value,
            critical=float(tests.critical[0]),
            p_value=tests.p_value(value),
            established=bool(value > tests.critical[0]),
            from_budget=layout.budgets[i] if value > 0 else pd.NA,
            to_budget=layout.budgets[j] if value > 0 else pd.NA,
            increase=float(layout.means[j] - layout.means[i]) if value > 0 else 0.0,
        )

    return per_group(frame, by, one)


def u_shape(
    frame: pd.DataFrame, level: float = LEVEL, *, by: Sequence[str] = (), pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Test for a U: the smaller of the largest fall up to some k and the largest rise after k, maximised over k.

    An intersection-union test: both sides must exceed the critical value of a rise, which bounds the chance of a false
    U for every curve that is not one (falling, rising, or rising and then falling).

    Returns:
        One row per group: ``statistic``, ``critical``, ``p_value``, ``established``, ``at_budget``.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        tests = _tests(part, level, pooled, seed)
        if not tests.known:
            return _unknown("statistic", "critical", "p_value", "established", "at_budget")
        value, k = tests.fall_then_rise
        return _row(
            statistic=value,
            critical=float(tests.critical[0]),
            p_value=tests.p_value(value),
            established=bool(value > tests.critical[0]),
            at_budget=tests.layout.budgets[k],
        )

    return per_group(frame, by, one)


def confidence_set(
    frame: pd.DataFrame, level: float = LEVEL, *, by: Sequence[str] = (), pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Return which budgets may hold the minimum: all k with max over j of (m_k - m_j) / se at most its critical value.

    Returns:
        One row per budget: ``budget``, ``mean``, ``statistic``, ``critical``, ``in_set``.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        tests = _tests(part, level, pooled, seed)
        nothing = np.full(len(tests.layout.budgets), np.nan)
        return pd.DataFrame(
            {
                "budget": tests.layout.budgets,
                "mean": tests.layout.means,
                "statistic": tests.worst if tests.known else nothing,
                "critical": tests.critical[2:] if tests.known else nothing,
                "in_set": tests.kept,
            }
        )

    return per_group(frame, by, one)


def inflection_point(
    frame: pd.DataFrame, level: float = LEVEL, *, by: Sequence[str] = (), pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Estimate the inflection point: the minimum of the weighted unimodal fit, with its interval and censoring.

    Source: paper, Section 3 ("the token budget where performance first begins to degrade").

    Returns:
        One row per group: ``budget``; ``after`` and ``before``, the open interval between the budgets outside the
        confidence set, missing at an end without a budget beyond; ``left_censored`` (the first budget is in the set)
        and ``right_censored`` (the last is: no inflection point is established up to the last budget).
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame([interval(_tests(part, level, pooled, seed))])

    return per_group(frame, by, one)


def interval(tests: CurveTests) -> dict[str, Any]:
    """Return the columns of `inflection_point` for ``tests``."""
    budgets = tests.layout.budgets
    kept = np.flatnonzero(tests.kept)
    low, high = int(kept[0]), int(kept[-1])
    fit = valley(tests.layout.means, 1.0 / mean_variances(tests.layout))
    return {
        "budget": budgets[fit.minimum],
        "after": budgets[low - 1] if low > 0 else pd.NA,
        "before": budgets[high + 1] if high + 1 < len(budgets) else pd.NA,
        "left_censored": low == 0,
        "right_censored": high == len(budgets) - 1,
    }


def first_rise(
    frame: pd.DataFrame, level: float = LEVEL, *, by: Sequence[str] = (), pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Find the first adjacent increase whose simultaneous lower bound is above 0.

    Source: paper, Definition 4.2 (the smallest budget after which the loss is higher).

    Returns:
        One row per group: ``from_budget`` and ``to_budget`` (missing where no adjacent increase is established),
        ``increase``, ``lower`` (simultaneous lower bound) and ``critical``.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        tests = _tests(part, level, pooled, seed)
        if not tests.known:
            return _unknown("from_budget", "to_budget", "increase", "lower", "critical")
        critical = float(tests.critical[1])
        found = _first(tests, critical)
        if found is None:
            return _row(from_budget=pd.NA, to_budget=pd.NA, increase=np.nan, lower=np.nan, critical=critical)
        k, increase, lower = found
        budgets = tests.layout.budgets
        return _row(from_budget=budgets[k], to_budget=budgets[k + 1], increase=increase, lower=lower, critical=critical)

    return per_group(frame, by, one)


def _first(tests: CurveTests, critical: float) -> tuple[int, float, float] | None:
    first, second = pairs(len(tests.layout.budgets))[1]
    for place in np.flatnonzero(second == first + 1):
        increase = float(tests.contrasts.estimates[place])
        lower = increase - critical * float(tests.contrasts.errors[place])
        if lower > 0:
            return int(first[place]), increase, lower
    return None


def _row(**values: Any) -> pd.DataFrame:
    return pd.DataFrame([values])


def _unknown(*columns: str) -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(columns, pd.NA)])
