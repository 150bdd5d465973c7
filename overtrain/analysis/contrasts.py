"""Differences of budgets' means, their standard errors, and what they do when all budgets are equal.

A contrast is a row of weights over budgets that sums to 0; its variance is

    u  +  k' C k  -  sum_b k_b^2 x_b  +  sum_b k_b^2 j_b

with ``u`` from the units (seeds, or runs where there are several), the documents' covariance ``C`` of the budgets' means, the
unit-by-document interaction ``x`` that both of them hold and that would count twice, and the jitter ``j`` of neighbouring
checkpoints where it was measured. The first three are never less than the larger of the first two. For two budgets i and j
of equal noise ``u`` is 2 var_seed / S + 2 var_run / R, and the documents add var(document difference) / D.

The variance of a unit is pooled over budgets, because three seeds at one budget estimate nothing; where units are shared it
comes from the paired differences (the unit-by-budget residuals).

Deviation: three values of ``u`` are compared and the largest is used: with the pooled variance, with each budget's own where
that is larger, and with the paired differences of this contrast alone. The noise of fine-tuning grows along a curve (7 to 24
times on our ladders), and a seed can have a slope of its own over the budgets; the pooled value alone then finds false rises
in 10% of flat curves (6 budgets, 3 seeds). Simulated null curves have the estimated, unequal noise. ``pooled=True`` gives the
pooled value alone and equal noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize, stats

from overtrain.analysis.noise import noise_covariance, square_root, unit_variance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from overtrain.analysis.layout import Array, Layout

__all__ = [
    "SIMULATIONS",
    "Contrasts",
    "Selection",
    "combine",
    "divide",
    "matched_freedom",
    "maxima",
    "pairs",
    "unit_terms",
]

SIMULATIONS = 20_000
"""Simulated null studies behind a critical value; its Monte Carlo error is then about 0.015."""

_CALIBRATION = 0.9
"""Share of the level at which critical values are read where the noise of units is estimated: the estimate costs half a point
of level with three seeds whose slopes differ."""

_LOWER = 0.2
"""One minus the confidence of the upper limit of the variance between units, and of the jitter."""

_UPPER = 0.975
"""Quantile at which degrees of freedom are matched: that of a two-sided interval at 95%."""

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


def unit_terms(cells: Array, weights: Array, *, paired: bool, pooled: bool) -> tuple[Array, float]:
    """Return what units add to the variance of each contrast, and the degrees of freedom of the pooled variance.

    Args:
        cells: shape (..., budgets, units); NaN where a budget has fewer units (not with ``paired``).
        weights: shape (contrasts, budgets).
        paired: whether all budgets share their units.
        pooled: the pooled variance alone; otherwise the largest of the three values that the module names.

    Returns:
        Variances, shape (..., contrasts), and the degrees of freedom; 0 and 0.0 with one unit.
    """
    units = cells.shape[-1]
    variance, freedom = unit_variance(cells, paired=paired, pooled=pooled)
    counts = np.isfinite(cells.reshape(-1, *cells.shape[-2:])[0]).sum(axis=-1).astype(float)
    terms = (variance / counts) @ (weights**2).T
    if paired and not pooled and units > 1:
        own = np.swapaxes(cells, -1, -2) @ weights.T  # (..., units, contrasts)
        terms = np.maximum(terms, own.var(axis=-2, ddof=1) / units)
    return np.asarray(terms), freedom


class Separate(NamedTuple):
    """Standard errors that rest on the budgets of a contrast alone.

    Attributes:
        errors: shape (contrasts,).
        freedom: of each, shape (contrasts,).
    """

    errors: Array
    freedom: Array


@dataclass(frozen=True)
class Contrasts:
    """Contrasts of one curve.

    Attributes:
        layout: the curve.
        weights: shape (contrasts, budgets), rows sum to 0.
        pooled: see `unit_terms`.
        equal_noise: simulate budgets as equally noisy and seeds without slopes, whatever the curve shows: for designs.
    """

    layout: Layout
    weights: Array
    pooled: bool = False
    equal_noise: bool = False

    def calibrated(self, level: float) -> float:
        """Return the level at which critical values are read, so that the test keeps ``level``."""
        exact = self.pooled or self.layout.cells.shape[1] == 1
        return level if exact else _CALIBRATION * level

    @cached_property
    def estimates(self) -> Array:
        """Value of each contrast, shape (contrasts,)."""
        return np.asarray(self.weights @ self.layout.means)

    @cached_property
    def _units(self) -> tuple[Array, float]:
        return unit_terms(self.layout.cells, self.weights, paired=self.layout.paired, pooled=self.pooled)

    @cached_property
    def _squared(self) -> Array:
        return np.asarray(self.weights**2)

    @cached_property
    def _documents(self) -> Array:
        return np.asarray(np.einsum("cb,bd,cd->c", self.weights, self.layout.covariance, self.weights))

    @cached_property
    def _twice(self) -> Array:
        return np.asarray(self._squared @ self.layout.interaction)

    @cached_property
    def _jitter(self) -> Array:
        jitter = self.layout.jitter
        return np.zeros(len(self.weights)) if jitter is None else self._squared @ (jitter.variance / jitter.members)

    @property
    def _known(self) -> bool:
        return self._units[1] > 0 or self.layout.n_documents > 1

    @cached_property
    def errors(self) -> Array:
        """Standard error of each contrast, shape (contrasts,); NaN where nothing is repeated."""
        variance = combine(self._units[0], self._documents, self._twice) + self._jitter
        return np.sqrt(variance) if self._known else np.full(len(variance), np.nan)

    @cached_property
    def freedom(self) -> Array:
        """Degrees of freedom of each standard error, shape (contrasts,).

        Source: Satterthwaite (1946), for the sum of the units', the documents' and the jitter's variance.
        """
        return self._freedom(self.errors, self._units[0], np.full(len(self.weights), self._units[1]))

    @cached_property
    def separate(self) -> Separate:
        """Standard errors from the budgets of each contrast alone: exact whatever the noise of the others is.

        Paired differences of units have one degree of freedom less than units; unpaired budgets keep a variance each, and
        their degrees of freedom are Welch's.

        Source: Student (1908) for paired differences; Welch (1947). Documents and jitter are added as in Cochran and Cox
        (1950): the quantile is the mean of the parts' quantiles, weighted by their variances; the degrees of freedom are those
        with that quantile. Satterthwaite's formula covers 92% where two degrees of freedom of the seeds meet documents.
        """
        layout = self.layout
        units = layout.cells.shape[1]
        freedom = np.zeros(len(self.weights))
        terms = np.zeros(len(self.weights))
        if layout.paired and units > 1:
            terms = (layout.cells.T @ self.weights.T).var(axis=0, ddof=1) / units
            freedom += units - 1
        elif units > 1:
            counts = layout.counts
            squares = np.nansum((layout.cells - layout.means[:, None]) ** 2, axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                parts = self._squared * np.where(counts > 1, squares / (counts - 1) / counts, np.inf)
                parts[self._squared == 0] = 0.0
                terms = parts.sum(axis=1)
                freedom = terms**2 / (parts**2 / np.maximum(counts - 1, 1)).sum(axis=1)
            freedom = np.where(np.isfinite(freedom), freedom, 0.0)
        variance = combine(terms, self._documents, self._twice) + self._jitter
        errors = np.sqrt(variance) if self._known else np.full(len(variance), np.nan)
        documents = np.maximum(variance - self._jitter - terms, 0.0)
        sources = [(terms, freedom), (documents, _full(terms, layout.n_documents - 1.0))]
        if layout.jitter is not None:
            sources.append((self._jitter, _full(terms, layout.jitter.freedom)))
        found = [matched_freedom([(value[k], degrees[k]) for value, degrees in sources]) for k in range(len(terms))]
        return Separate(errors, np.array(found))

    def _freedom(self, errors: Array, units: Array, freedom: Array) -> Array:
        parts = [(units, freedom), (self._documents, np.full(len(units), self.layout.n_documents - 1.0))]
        if self.layout.jitter is not None:
            parts.append((self._jitter, np.full(len(units), self.layout.jitter.freedom)))
        squares, least = np.zeros(len(units)), np.full(len(units), np.inf)
        for value, degrees in parts:
            known = degrees > 0
            squares += np.where(known, value**2 / np.where(known, degrees, 1.0), 0.0)
            least = np.where(known & (value > 0), np.minimum(least, degrees), least)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(squares > 0, np.maximum(errors**4 / squares, np.minimum(least, 1e9)), np.inf)

    @cached_property
    def statistics(self) -> Array:
        """Estimate over standard error, shape (contrasts,); 0 where the estimate is 0."""
        return divide(self.estimates, self.errors)

    def null(
        self,
        seed: int = 0,
        simulations: int = SIMULATIONS,
        *,
        known: bool = False,
        noise: Array | None = None,
        transform: Callable[[Array], Array] | None = None,
    ) -> Iterator[tuple[Array, Array]]:
        """Yield estimates and standard errors of simulated curves with equal budgets, shapes (some, contrasts).

        All budgets equal is the least favourable curve that does not rise. The design is the one at hand; unit values are
        normal with the covariance that `overtrain.analysis.noise.noise_covariance` estimates, unequal noise and slopes of
        units included, and every simulated curve estimates its own variances anew. Beside documents and jitter the size of
        the units' variance matters, and with few seeds a small estimate comes with large statistics: its upper 80%
        confidence limit is used (2 seeds: false rises 5.0% instead of 6.5%), unless it is ``known``; so is that of jitter.

        Args:
            seed: of the simulation.
            simulations: number of curves.
            known: the estimated variances are the true ones.
            noise: standard normal numbers for the units, shape (simulations, budgets, units), where several curves share
                their seeds.
            transform: done to the units' values of every curve, shape (some, budgets, units), before they are used.
        """
        rng = np.random.default_rng(seed)
        layout, (budgets, units) = self.layout, self.layout.cells.shape
        covariance, freedom = noise_covariance(
            layout.cells, paired=layout.paired, equal=self.pooled or self.equal_noise
        )
        if freedom > 0 and not known:
            covariance = covariance * (freedom / stats.chi2.ppf(_LOWER, freedom))
        spread = square_root(covariance)
        whole = bool(np.isfinite(layout.cells).all())
        absent = np.where(np.isfinite(layout.cells), 0.0, np.nan)
        mean = np.mean if whole else np.nanmean
        root = square_root(layout.covariance - np.diag(layout.interaction))
        few = 1 < layout.n_documents < _FEW_DOCUMENTS
        step = max(64, _CHUNK // max(len(self.weights) * units, budgets * layout.n_documents if few else 1))
        for start in range(0, simulations, step):
            size = min(step, simulations - start)
            drawn = rng.standard_normal((size, budgets, units)) if noise is None else noise[start : start + size]
            cells = np.einsum("kb,nku->nbu", spread, drawn) if freedom > 0 else np.zeros((size, budgets, units))
            if not whole:
                cells = cells + absent
            if transform is not None:
                cells = transform(cells)
            terms = unit_terms(cells, self.weights, paired=layout.paired, pooled=self.pooled)[0]
            means = mean(cells, axis=-1) + rng.standard_normal((size, budgets)) @ root
            documents = self._document_terms(rng, size) if few else self._documents
            variance = combine(terms, documents, self._twice)
            if layout.jitter is not None:
                shift, estimate = layout.jitter.draw(rng, size, known=known)
                means, variance = means + shift, variance + estimate @ self._squared.T
            yield means @ self.weights.T, np.sqrt(variance)

    def _document_terms(self, rng: np.random.Generator, size: int) -> Array:
        freedom = self.layout.n_documents - 1
        drawn = rng.standard_normal((size, freedom, len(self.layout.budgets))) @ square_root(self.layout.covariance)
        covariance = drawn.transpose(0, 2, 1) @ drawn / freedom
        return np.asarray(np.einsum("cb,nbd,cd->nc", self.weights, covariance, self.weights, optimize=True))


def _full(like: Array, value: float) -> Array:
    return np.full(len(like), value)


def matched_freedom(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom whose 97.5% quantile is the mean of those of ``parts``, weighted by their variances.

    Args:
        parts: variance and degrees of freedom of each part.
    """
    known = [(variance, freedom) for variance, freedom in parts if variance > 0 and freedom > 0]
    if not known:
        return np.inf
    low, high = min(f for _, f in known), max(f for _, f in known)
    if low == high:
        return low
    total = sum(variance for variance, _ in known)
    quantile = sum(variance * float(stats.t.ppf(_UPPER, freedom)) for variance, freedom in known) / total
    return float(optimize.brentq(lambda freedom: float(stats.t.ppf(_UPPER, freedom)) - quantile, low, min(high, 1e9)))


def maxima(
    contrasts: Contrasts,
    groups: Sequence[Selection],
    seed: int = 0,
    simulations: int = SIMULATIONS,
    *,
    noise: Array | None = None,
    transform: Callable[[Array], Array] | None = None,
) -> Array:
    """Return the largest statistic of each group in simulated curves with equal budgets, shape (simulations, groups)."""
    return np.concatenate(
        [
            np.stack([(part[:, rows] * signs).max(axis=1) for rows, signs in groups], axis=1)
            for part in (
                divide(*drawn) for drawn in contrasts.null(seed, simulations, noise=noise, transform=transform)
            )
        ]
    )


def combine(units: Array, documents: Array, twice: Array) -> Array:
    """Return the variance of a contrast from its two parts and what both of them hold."""
    return np.maximum(np.maximum(units, documents), units + documents - twice)


def divide(estimates: Array, errors: Array) -> Array:
    """Return estimates over standard errors, 0 where the estimate is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(estimates == 0, 0.0, estimates / errors)
