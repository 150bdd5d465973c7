"""Does a curve rise again, is it a U, and where is its minimum? Lower is better; only the order of budgets counts.

Critical values are simulated for the design at hand: its budgets, seeds, runs and documents. For 6 budgets x 3 seeds, seed
noise alone and the pooled variance, they are 3.05 for a rise and 2.50 for the confidence set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from overtrain.analysis.contrasts import SIMULATIONS, Contrasts, Selection, maxima, pairs
from overtrain.analysis.divergence import diverges_later
from overtrain.analysis.layout import Layout, from_cells
from overtrain.analysis.unimodal import mean_variances, valley

if TYPE_CHECKING:
    from collections.abc import Callable

    from overtrain.analysis.layout import Array, Flags

__all__ = [
    "LEVEL",
    "CurveTests",
    "FirstRise",
    "critical_values",
    "first_rise",
    "minimum_interval",
    "selections",
]

LEVEL = 0.05
"""Chance of a false rise, and one minus the confidence of the set of minima."""


def _equal_noise(layout: Layout, pooled: bool, seed: int) -> Array:
    contrasts = Contrasts(layout, pairs(len(layout.budgets))[0], pooled, equal_noise=True)
    return maxima(contrasts, selections(len(layout.budgets)), seed)


@dataclass(frozen=True)
class CurveTests:
    """A curve with its pairwise statistics and the values that they must exceed; what the public functions share.

    Attributes:
        layout: the curve.
        level: of every test.
        pooled: see `overtrain.analysis.contrasts.unit_terms`.
        seed: of the simulation.
        null_maxima: distribution of the maxima under equal budgets, shape (draws, 2 + budgets): of all rises, of the
            adjacent rises, and for each k of ``m_k - m_j``. Simulated unless it is given.
        simulations: simulated curves behind the critical values.
        transform: what is done to the units' values of every simulated curve before it is tested, shape (curves, budgets,
            units); done to ``layout`` already.
    """

    layout: Layout
    level: float = LEVEL
    pooled: bool = False
    seed: int = 0
    null_maxima: Array | None = None
    simulations: int = SIMULATIONS
    transform: Callable[[Array], Array] | None = None

    def stricter(self, factor: float) -> CurveTests:
        """Return the same tests with all critical values multiplied by ``factor``, which adjusts for a family of curves."""
        return replace(self, null_maxima=self.null * factor) if self.known and factor != 1 else self

    @cached_property
    def contrasts(self) -> Contrasts:
        """All ``m_j - m_i`` with ``i < j``."""
        return Contrasts(self.layout, pairs(len(self.layout.budgets))[0], self.pooled)

    @cached_property
    def known(self) -> bool:
        """Whether there are two budgets and a standard error."""
        return len(self.layout.budgets) > 1 and bool(np.isfinite(self.contrasts.errors).all())

    @cached_property
    def pairwise(self) -> Array:
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
        groups = selections(len(self.layout.budgets))
        return maxima(self.contrasts, groups, self.seed, self.simulations, transform=self.transform)

    @property
    def tested_level(self) -> float:
        """Level of the test of values: where cells diverged, half of ``level``; the place of divergence has the other."""
        return self.level if self.layout.diverged is None else self.level / 2

    @cached_property
    def critical(self) -> Array:
        """Upper quantiles of ``null``, shape (2 + budgets,); infinite where budgets whose scores are equal leave no error."""
        with np.errstate(invalid="ignore"):
            found = np.quantile(self.null, 1 - self.contrasts.calibrated(self.tested_level), axis=0)
        # Null studies without any variation say nothing of noise: then nothing is established.
        return np.where(np.isnan(found) | (found <= 0), np.inf, found)

    def p_value(self, statistic: float) -> float:
        """Share of simulated curves whose largest rise is at least ``statistic`` (that of a fall is the same)."""
        if not np.isfinite(self.critical[0]):
            return 1.0
        share = float((1 + (self.null[:, 0] >= statistic).sum()) / (1 + len(self.null)))
        return min(share / self.contrasts.calibrated(1.0), 1.0)

    @cached_property
    def largest_rise(self) -> tuple[float, int, int]:
        """Statistic of the largest rise and its two budgets' indices."""
        return _largest(np.triu(self.pairwise, 1))

    @cached_property
    def largest_fall(self) -> tuple[float, int, int]:
        """Statistic of the largest fall and its two budgets' indices."""
        return _largest(np.triu(-self.pairwise, 1))

    @cached_property
    def fall_then_rise(self) -> tuple[float, int]:
        """Largest over k of the smaller of the largest fall up to k and the largest rise from k on, and that k."""
        upper = np.triu(self.pairwise, 1)
        falls = np.maximum.accumulate((-upper).max(axis=0))
        rises = np.maximum.accumulate(upper.max(axis=1)[::-1])[::-1]
        smaller = np.minimum(falls, rises)
        return float(smaller.max()), int(smaller.argmax())

    @cached_property
    def p_divergence(self) -> float:
        """P-value of "divergence comes at later budgets"; NaN where nothing diverged."""
        return float("nan") if self.layout.diverged is None else diverges_later(self.layout.diverged)

    @property
    def diverges(self) -> bool:
        """Whether it is established that divergence comes at later budgets, at half of ``level``."""
        return self.p_divergence <= self.level / 2

    @cached_property
    def rise_not_excluded(self) -> float:
        """Upper bound on every rise of the true curve: the largest over i < j of m_j - m_i + c se, never below 0.

        Simultaneous over all pairs of budgets: the critical value of a rise bounds errors in both directions.
        """
        errors = self.contrasts.errors
        width = np.multiply(self.critical[0], errors, where=errors > 0, out=np.zeros(len(errors)))
        return max(float((self.contrasts.estimates + width).max()), 0.0)

    @cached_property
    def jitter_of_rise(self) -> float:
        """Largest standard deviation of jitter under which the rise, and that the last budget is not the minimum, stand.

        Jitter of a checkpoint adds 2 sd^2 to the squared standard error of a difference; 0 where nothing is established.
        """
        first, second = pairs(len(self.layout.budgets))[1]
        last = second == len(self.layout.budgets) - 1
        every = np.ones(len(first), bool)
        return min(self._tolerated(1.0, every, self.critical[0]), self._tolerated(1.0, last, self.critical[-1]))

    @cached_property
    def jitter_of_fall(self) -> float:
        """The same for a fall."""
        return self._tolerated(-1.0, np.ones(len(self.contrasts.estimates), bool), self.critical[0])

    def _tolerated(self, direction: float, rows: Flags, critical: float) -> float:
        if not np.isfinite(critical):
            return 0.0
        change = direction * self.contrasts.estimates[rows]
        room = np.where(change > 0, (change / critical) ** 2 - self.contrasts.errors[rows] ** 2, 0.0).max(initial=0.0)
        return float(np.sqrt(max(room, 0.0) / 2))

    @cached_property
    def above_lowest(self) -> Array:
        """For each k, the largest ``(m_k - m_j) / se`` over j, shape (budgets,)."""
        table = self.pairwise.copy()
        np.fill_diagonal(table, -np.inf)
        return np.asarray(table.max(axis=0))

    @cached_property
    def may_be_minimum(self) -> Flags:
        """Budgets that may hold the minimum, shape (budgets,), boolean; all of them where nothing is known.

        Where divergence is established to come late, budgets with diverged cells hold no minimum.
        """
        budgets = len(self.layout.budgets)
        kept = np.asarray(self.above_lowest <= self.critical[2:]) if self.known else np.ones(budgets, bool)
        if self.diverges and self.layout.diverged is not None:
            finite = ~self.layout.diverged.any(axis=1)
            kept = kept & finite if (kept & finite).any() else kept
        return kept


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


def critical_values(
    budgets: int, seeds: int, level: float = LEVEL, *, paired: bool = True, pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Return the critical values of a design with seed noise alone.

    Args:
        budgets: number of budgets.
        seeds: seeds (or, with several, runs) at each budget.
        level: of the tests.
        paired: whether budgets share their seeds.
        pooled: see `overtrain.analysis.contrasts.unit_terms`.
        seed: of the simulation.

    Returns:
        One row: ``rise``, ``adjacent`` and ``confidence_set`` (mean over budgets, which differ by simulation error).
    """
    cells = np.random.default_rng(seed).standard_normal((budgets, seeds))
    layout = from_cells(cells, paired=paired)
    critical = np.quantile(_equal_noise(layout, pooled, seed), 1 - level, axis=0)
    return pd.DataFrame(
        {"rise": [critical[0]], "adjacent": [critical[1]], "confidence_set": [float(critical[2:].mean())]}
    )


def minimum_interval(tests: CurveTests) -> dict[str, Any]:
    """Estimate the inflection point: the minimum of the weighted unimodal fit, with its interval and censoring.

    Source: paper, Section 3 ("the token budget where performance first begins to degrade").

    Returns:
        ``budget``; ``after`` and ``before``, the open interval between the budgets outside the confidence set, missing at
        an end without a budget beyond; ``left_censored`` (the first budget is in the set) and ``right_censored`` (the last
        is: no inflection point is established up to the last budget).
    """
    budgets = tests.layout.budgets
    kept = np.flatnonzero(tests.may_be_minimum)
    low, high = int(kept[0]), int(kept[-1])
    fit = valley(tests.layout.means, 1.0 / mean_variances(tests.layout))
    return {
        "budget": budgets[fit.minimum],
        "after": budgets[low - 1] if low > 0 else pd.NA,
        "before": budgets[high + 1] if high + 1 < len(budgets) else pd.NA,
        "left_censored": low == 0,
        "right_censored": high == len(budgets) - 1,
    }


class FirstRise(NamedTuple):
    """The first adjacent increase whose simultaneous lower bound is above 0.

    Attributes:
        from_budget: budget before the increase, in tokens.
        to_budget: the next budget.
        increase: of the mean.
        lower: simultaneous lower bound of the increase.
    """

    from_budget: int
    to_budget: int
    increase: float
    lower: float


def first_rise(tests: CurveTests) -> FirstRise | None:
    """Find the first adjacent increase whose simultaneous lower bound is above 0; None where there is none.

    Source: paper, Definition 4.2 (the smallest budget after which the loss is higher).
    """
    if not tests.known:
        return None
    budgets = tests.layout.budgets
    first, second = pairs(len(budgets))[1]
    for place in np.flatnonzero(second == first + 1):
        increase = float(tests.contrasts.estimates[place])
        lower = increase - float(tests.critical[1]) * float(tests.contrasts.errors[place])
        if lower > 0:
            return FirstRise(budgets[first[place]], budgets[second[place]], increase, lower)
    return None
