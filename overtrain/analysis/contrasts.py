"""Differences of budgets' means, their standard errors, and what they do when all budgets are equal.

A contrast is a row of weights over budgets that sums to 0; its variance is

    sum_b k_b^2 v_b / U  +  k' C k  -  sum_b k_b^2 x_b

with the units' variance ``v`` (U units: seeds, or runs where there are several), the documents' covariance ``C`` of the
budgets' means, and the unit-by-document interaction ``x`` that both of them hold and that would count twice. It is never
less than the larger of its first two terms. For two budgets i and j this is 2 var_seed / S + 2 var_run / R +
var(document difference) / D.

``v`` is pooled over budgets, because three seeds at one budget estimate nothing; where units are shared it comes from the
paired differences (the unit-by-budget residuals).

Deviation: where a budget's own estimate exceeds the pooled one, its own is used (``guarded``), because the effect of
noise on the loss grows along a curve: with the pooled value alone a flat curve whose last budget is four times as noisy
turns falsely in 9% of studies instead of 5% (seed noise alone, 20,000 studies). ``pooled=True`` gives the pooled value alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from overtrain.analysis.layout import Array, Layout

__all__ = ["SIMULATIONS", "Contrasts", "Selection", "combine", "divide", "maxima", "pairs", "unit_variance"]

SIMULATIONS = 20_000
"""Simulated null studies behind a critical value; its Monte Carlo error is then about 0.015."""

_LOWER = 0.2
"""One minus the confidence of the upper limit of the variance between units."""

_FEW_DOCUMENTS = 60
"""Below this the documents' covariance is estimated anew in every simulated study; above, it is as good as known."""

_CHUNK = 200_000
"""Numbers per simulated block; more leave the processor's cache."""

Selection = tuple["np.ndarray[tuple[int], np.dtype[np.intp]]", "Array"]
"""Rows of a contrast matrix and the sign with which each enters a maximum."""


def pairs(budgets: int) -> tuple[Array, np.ndarray[tuple[int, int], np.dtype[np.intp]]]:
    """Return the contrasts ``m_j - m_i`` of all ``i < j``, shape (pairs, budgets), and their (i, j), shape (2, pairs).

    >>> pairs(3)[0].astype(int).tolist()
    [[-1, 1, 0], [-1, 0, 1], [0, -1, 1]]
    """
    first, second = np.triu_indices(budgets, 1)
    rows = np.zeros((len(first), budgets))
    rows[np.arange(len(first)), first] = -1.0
    rows[np.arange(len(first)), second] = 1.0
    return rows, np.array([first, second])


def unit_variance(cells: Array, *, paired: bool, pooled: bool) -> tuple[Array, float]:
    """Return the variance of one unit's value at each budget and its degrees of freedom.

    Args:
        cells: shape (..., budgets, units); NaN where a budget has fewer units (not with ``paired``).
        paired: take the residuals of budgets and units, so that what a unit adds at every budget cancels.
        pooled: one value for all budgets; otherwise the larger of that and the budget's own.

    Returns:
        Variances, shape (..., budgets), and the degrees of freedom of the pooled one; 0 and 0.0 with one unit.
    """
    budgets, units = cells.shape[-2:]
    if units == 1:
        return np.zeros(cells.shape[:-1]), 0.0
    if paired and budgets > 1:
        left = cells - cells.mean(axis=-1, keepdims=True)
        left = left - left.mean(axis=-2, keepdims=True)
        freedom = float((budgets - 1) * (units - 1))
        own = (left**2).sum(axis=-1) * budgets / freedom
        everywhere = own.mean(axis=-1, keepdims=True)
    else:
        counts = np.isfinite(cells).sum(axis=-1)
        left = cells - np.nanmean(cells, axis=-1, keepdims=True)
        squares = np.nansum(left**2, axis=-1)
        freedom = float((counts - 1).reshape(-1, budgets)[0].sum())
        own = squares / np.maximum(counts - 1, 1)
        everywhere = squares.sum(axis=-1, keepdims=True) / max(freedom, 1.0)
    variance = np.broadcast_to(everywhere, own.shape) if pooled else np.maximum(own, everywhere)
    return variance, freedom


@dataclass(frozen=True)
class Contrasts:
    """Contrasts of one curve.

    Attributes:
        layout: the curve.
        weights: shape (contrasts, budgets), rows sum to 0.
        pooled: see `unit_variance`.
    """

    layout: Layout
    weights: Array
    pooled: bool = False

    @cached_property
    def estimates(self) -> Array:
        """Value of each contrast, shape (contrasts,)."""
        return np.asarray(self.weights @ self.layout.means)

    @cached_property
    def _units(self) -> tuple[Array, float]:
        return unit_variance(self.layout.cells, paired=self.layout.paired, pooled=self.pooled)

    @cached_property
    def _terms(self) -> tuple[Array, Array, Array]:
        squared = self.weights**2
        units = squared @ (self._units[0] / self.layout.counts)
        documents = np.einsum("cb,bd,cd->c", self.weights, self.layout.covariance, self.weights)
        return units, documents, squared @ self.layout.interaction

    @cached_property
    def errors(self) -> Array:
        """Standard error of each contrast, shape (contrasts,); NaN where nothing is repeated."""
        variance = combine(*self._terms)
        known = self._units[1] > 0 or self.layout.n_documents > 1
        return np.sqrt(variance) if known else np.full(len(variance), np.nan)

    @cached_property
    def freedom(self) -> Array:
        """Degrees of freedom of each standard error, shape (contrasts,).

        Source: Satterthwaite (1946), for the sum of the units' and the documents' variance.
        """
        units, documents, _ = self._terms
        squares = np.zeros(len(units))
        if self._units[1] > 0:
            squares += units**2 / self._units[1]
        if self.layout.n_documents > 1:
            squares += documents**2 / (self.layout.n_documents - 1)
        least = min([f for f in (self._units[1], self.layout.n_documents - 1.0) if f > 0], default=np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(squares > 0, np.maximum(self.errors**4 / squares, min(least, 1e9)), np.inf)

    @cached_property
    def statistics(self) -> Array:
        """Estimate over standard error, shape (contrasts,); 0 where the estimate is 0."""
        return divide(self.estimates, self.errors)

    def null(
        self, seed: int = 0, simulations: int = SIMULATIONS, *, known: bool = False
    ) -> Iterator[tuple[Array, Array]]:
        """Yield estimates and standard errors of simulated curves with equal budgets, shapes (some, contrasts).

        All budgets equal is the least favourable curve that does not rise. Design and variances are those at hand:
        unit values are normal with the pooled variance, which every simulated curve estimates anew. Beside documents the
        size of that variance matters, and with few seeds a small estimate comes with large statistics: its upper 80%
        confidence limit is used (2 seeds: false rises 5.0% instead of 6.5%), unless it is ``known``.
        """
        rng = np.random.default_rng(seed)
        layout, (budgets, units) = self.layout, self.layout.cells.shape
        pooled, freedom = unit_variance(layout.cells, paired=layout.paired, pooled=True)
        deviation = np.sqrt(pooled) if freedom > 0 else np.zeros(budgets)
        if freedom > 0 and not known:
            deviation = deviation * np.sqrt(freedom / stats.chi2.ppf(_LOWER, freedom))
        whole = bool(np.isfinite(layout.cells).all())
        absent = np.where(np.isfinite(layout.cells), 0.0, np.nan)
        mean = np.mean if whole else np.nanmean
        root = _root(layout.covariance - np.diag(layout.interaction))
        squared = self.weights**2
        fixed = np.einsum("cb,bd,cd->c", self.weights, layout.covariance, self.weights)
        twice = squared @ layout.interaction
        few = 1 < layout.n_documents < _FEW_DOCUMENTS
        step = max(64, _CHUNK // max(len(self.weights), budgets * units, budgets * layout.n_documents if few else 1))
        for start in range(0, simulations, step):
            size = min(step, simulations - start)
            cells = rng.standard_normal((size, budgets, units)) * deviation[:, None]
            if not whole:
                cells += absent
            variance = unit_variance(cells, paired=layout.paired, pooled=self.pooled)[0] / layout.counts
            means = mean(cells, axis=-1) + rng.standard_normal((size, budgets)) @ root
            documents = self._document_terms(rng, size) if few else fixed
            yield means @ self.weights.T, np.sqrt(combine(variance @ squared.T, documents, twice))

    def _document_terms(self, rng: np.random.Generator, size: int) -> Array:
        freedom = self.layout.n_documents - 1
        drawn = rng.standard_normal((size, freedom, len(self.layout.budgets))) @ _root(self.layout.covariance)
        covariance = drawn.transpose(0, 2, 1) @ drawn / freedom
        return np.asarray(np.einsum("cb,nbd,cd->nc", self.weights, covariance, self.weights, optimize=True))


def maxima(contrasts: Contrasts, groups: Sequence[Selection], seed: int = 0, simulations: int = SIMULATIONS) -> Array:
    """Return the largest statistic of each group in simulated curves with equal budgets, shape (simulations, groups)."""
    return np.concatenate(
        [
            np.stack([(part[:, rows] * signs).max(axis=1) for rows, signs in groups], axis=1)
            for part in (divide(*drawn) for drawn in contrasts.null(seed, simulations))
        ]
    )


def combine(units: Array, documents: Array, twice: Array) -> Array:
    """Return the variance of a contrast from its two parts and what both of them hold."""
    return np.maximum(np.maximum(units, documents), units + documents - twice)


def divide(estimates: Array, errors: Array) -> Array:
    """Return estimates over standard errors, 0 where the estimate is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(estimates == 0, 0.0, estimates / errors)


def _root(covariance: Array) -> Array:
    """Return a matrix R with R'R = covariance, negative eigenvalues (rounding, subtraction) set to 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)
