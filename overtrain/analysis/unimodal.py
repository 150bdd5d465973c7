"""Monotone and unimodal least-squares fits, and what they add to the tests: corroboration, not a verdict.

The inflection point is the minimum of the weighted unimodal fit. No quadratic is fitted: its minimum depends on the scale
of the axis, and an asymmetric curve moves it; two lines only with ten budgets or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from model_wrappers.errors import DataError
from overtrain.analysis.contrasts import Contrasts, maxima, unit_variance
from overtrain.analysis.layout import assemble

if TYPE_CHECKING:
    from overtrain.analysis.layout import Array, Layout

__all__ = ["MIN_BUDGETS_TWO_LINES", "Valley", "likelihood_ratio", "mean_variances", "two_lines", "valley"]

MIN_BUDGETS_TWO_LINES = 10
"""Fewer budgets leave too few points on each line."""


class Valley(NamedTuple):
    """A fit that falls up to its minimum and rises after it.

    Attributes:
        fitted: value at each budget, shape (budgets,).
        minimum: index of the minimum; in a flat valley the budget with the lowest mean.
        squares: weighted sum of squared residuals.
    """

    fitted: Array
    minimum: int
    squares: float


def mean_variances(layout: Layout) -> Array:
    """Return the variance of each budget's mean, seeds and documents, shape (budgets,); 1 where nothing is repeated."""
    units = unit_variance(layout.cells, paired=layout.paired, pooled=False)[0] / layout.counts
    documents = np.diag(layout.covariance)
    total = np.maximum(np.maximum(units, documents), units + documents - layout.interaction)
    return total if (total > 0).all() else np.ones(len(total))


def valley(means: Array, weights: Array) -> Valley:
    """Fit a curve that falls and then rises, by weighted least squares.

    Best of a falling fit up to some budget and a rising fit after it, over all budgets; either may be empty, so that
    monotone curves are included.

    >>> fit = valley(np.array([3.0, 1.0, 1.4, 1.2, 5.0]), np.ones(5))
    >>> fit.minimum, fit.fitted.round(2).tolist()
    (1, [3.0, 1.0, 1.3, 1.3, 5.0])
    """
    best: tuple[float, Array] | None = None
    for split in range(len(means) + 1):
        fitted = np.concatenate(
            [_fit(means[:split], weights[:split], False), _fit(means[split:], weights[split:], True)]
        )
        squares = float((weights * (means - fitted) ** 2).sum())
        if best is None or squares < best[0] - 1e-12 * max(best[0], 1e-300):
            best = squares, fitted
    assert best is not None
    squares, fitted = best
    bottom = np.flatnonzero(fitted <= fitted.min() + 1e-12 * max(1.0, float(abs(fitted).max())))
    return Valley(fitted, int(bottom[np.argmin(means[bottom])]), squares)


def _fit(means: Array, weights: Array, increasing: bool) -> Array:
    if len(means) == 0:
        return np.empty(0)
    return np.asarray(isotonic_regression(means, weights=weights, increasing=increasing).x)


def likelihood_ratio(frame: pd.DataFrame, seed: int = 0, simulations: int = 1_000) -> pd.DataFrame:
    """Compare the non-increasing with the unimodal fit: does letting the curve rise at its end explain more?

    Args:
        frame: the long form of one curve, lower is better.
        seed: of the simulation.
        simulations: simulated curves with equal budgets.

    Returns:
        One row: ``statistic`` (difference of the weighted sums of squares), ``p_value`` (simulated).
    """
    layout = assemble(frame)
    budgets = len(layout.budgets)
    weights = 1.0 / mean_variances(layout)
    observed = _gain(layout.means, weights)
    units, freedom = unit_variance(layout.cells, paired=layout.paired, pooled=True)
    drawn = []
    if budgets > 1 and (freedom > 0 or layout.n_documents > 1):
        rng = np.random.default_rng(seed)
        covariance = layout.covariance - np.diag(layout.interaction) + np.diag(units / layout.counts)
        for means in rng.multivariate_normal(np.zeros(budgets), covariance, size=simulations, method="eigh"):
            scale = rng.chisquare(freedom) / freedom if freedom > 0 else 1.0
            drawn.append(_gain(means, weights / scale))
    p_value = (1 + sum(d >= observed for d in drawn)) / (1 + len(drawn)) if drawn else np.nan
    return pd.DataFrame({"statistic": [observed], "p_value": [p_value]})


def _gain(means: Array, weights: Array) -> float:
    falling = _fit(means, weights, False)
    return float((weights * (means - falling) ** 2).sum()) - valley(means, weights).squares


def two_lines(frame: pd.DataFrame, level: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """Fit one line before and one after a break and ask whether the first falls and the second rises.

    Every break that leaves three budgets on each side is tried; the smaller of the two slopes' statistics is compared
    with the simulated distribution of the largest rising slope over breaks, so the choice of the break is paid for.

    Source: Simonsohn (2018), "Two lines"; log2 of tokens is the axis.
    Deviation: the break is maximised over with its own critical value, not set by a preliminary fit.

    Returns:
        One row: ``statistic``, ``critical``, ``u_shaped``, ``break_budget``, ``slope_before`` and ``slope_after`` (per
        doubling of tokens).

    Raises:
        DataError: fewer than ten budgets.
    """
    layout = assemble(frame)
    budgets = len(layout.budgets)
    if budgets < MIN_BUDGETS_TWO_LINES:
        raise DataError(
            f"two lines need {MIN_BUDGETS_TWO_LINES} budgets, the curve has {budgets}; "
            "read the rise test and the confidence set of the minimum instead"
        )
    x = np.log2(np.array(layout.budgets, float))
    breaks = range(2, budgets - 2)
    before = np.array([_slope(x, range(k + 1)) for k in breaks])
    after = np.array([_slope(x, range(k, budgets)) for k in breaks])
    contrasts = Contrasts(layout, np.concatenate([before, after]))
    count = len(before)
    falls, rises = -contrasts.statistics[:count], contrasts.statistics[count:]
    null = maxima(contrasts, [(np.arange(count, 2 * count), np.ones(count)), (np.arange(count), -np.ones(count))], seed)
    critical = float(np.quantile(null, 1 - level, axis=0).max())
    smaller = np.minimum(falls, rises)
    at = int(np.argmax(smaller))
    return pd.DataFrame(
        {
            "statistic": [float(smaller[at])],
            "critical": [critical],
            "u_shaped": [bool(smaller[at] > critical)],
            "break_budget": [layout.budgets[breaks[at]]],
            "slope_before": [float(contrasts.estimates[at])],
            "slope_after": [float(contrasts.estimates[count + at])],
        }
    )


def _slope(x: Array, chosen: range) -> Array:
    """Return the weights that give the least-squares slope over the chosen budgets, shape (budgets,)."""
    row = np.zeros(len(x))
    index = list(chosen)
    centred = x[index] - x[index].mean()
    row[index] = centred / (centred**2).sum()
    return row
