"""The weighted unimodal least-squares fit; its minimum is the estimate of the inflection point.

No quadratic is fitted: its minimum depends on the scale of the axis, and an asymmetric curve moves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from overtrain.analysis.noise import unit_variance

if TYPE_CHECKING:
    from overtrain.analysis.layout import Array, Layout

__all__ = ["Valley", "mean_variances", "valley"]


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
