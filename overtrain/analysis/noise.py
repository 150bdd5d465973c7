"""How much units vary at each budget, and the model of their noise that null studies are simulated with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from overtrain.analysis.layout import Array

__all__ = ["noise_covariance", "slope_variance", "square_root", "unit_variance"]

_SHARE = 0.5
"""Weight of a budget's own variance in the noise model; the rest is the pooled one. Three seeds estimate the first with two
degrees of freedom; alone it would make some critical values of a noisy last budget far too small."""

_SLOPES = 2.0
"""What the observed variance of slopes is multiplied by in the noise model."""


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


def noise_covariance(cells: Array, *, paired: bool, equal: bool = False) -> tuple[Array, float]:
    """Estimate the covariance over budgets of one unit's deviations, and the degrees of freedom of its size.

    Where units are paired and there are three budgets or more, a unit deviates by a slope of its own over the order of
    budgets (`slope_variance`) and by independent noise whose variance differs between budgets. A budget's noise is the mean
    of its own and the pooled estimate.

    Args:
        cells: shape (budgets, units); NaN where a budget has fewer units (not with ``paired``).
        paired: whether all budgets share their units.
        equal: take the noise as equal and independent at all budgets.

    Returns:
        Covariance, shape (budgets, budgets), and the degrees of freedom; zeros and 0.0 with one unit.
    """
    budgets, units = cells.shape
    own, freedom = unit_variance(cells, paired=paired, pooled=True)
    if equal or freedom == 0:
        return np.diag(own), freedom
    if not paired:
        counts = np.isfinite(cells).sum(axis=1)
        squares = np.nansum((cells - np.nanmean(cells, axis=1, keepdims=True)) ** 2, axis=1)
        each = np.where(counts > 1, squares / np.maximum(counts - 1, 1), own)
        return np.diag(_SHARE * each + (1 - _SHARE) * own), freedom
    if budgets < 3:
        return np.diag(own), freedom
    left = cells - cells.mean(axis=1, keepdims=True)
    left = left - left.mean(axis=0)
    order, _, left = _slopes(left)
    each = (left**2).sum(axis=1) * budgets / ((budgets - 2) * (units - 1))
    pooled = each.mean()
    noise = np.diag(_SHARE * each + (1 - _SHARE) * pooled)
    return noise + slope_variance(cells, paired=paired) * np.outer(order, order), freedom


def slope_variance(cells: Array, *, paired: bool) -> float:
    """Bound the variance between units of the slope over the order of budgets, beyond what noise adds to it.

    The observed variance counts twice: with three units it has two degrees of freedom, and studies whose slopes happen to
    agree are those whose mean slope looks large.

    Args:
        cells: shape (budgets, units).
        paired: whether all budgets share their units.

    Returns:
        The variance, never negative; 0 where it cannot be told (fewer than three budgets or two units, or unpaired ones).
    """
    budgets, units = cells.shape
    if not paired or budgets < 3 or units < 2:
        return 0.0
    left = cells - cells.mean(axis=1, keepdims=True)
    order, slopes, left = _slopes(left - left.mean(axis=0))
    pooled = float((left**2).sum()) / ((budgets - 2) * (units - 1))
    return max(_SLOPES * float(slopes @ slopes) / (units - 1) - pooled / float(order @ order), 0.0)


def _slopes(residuals: Array) -> tuple[Array, Array, Array]:
    """Return the centred order of budgets, the slope of every unit over it, and what is left of ``residuals``."""
    budgets = len(residuals)
    order = np.arange(budgets) - (budgets - 1) / 2
    slopes = order @ residuals / float(order @ order)
    return np.asarray(order), slopes, residuals - np.outer(order, slopes)


def square_root(covariance: Array) -> Array:
    """Return a matrix R with R'R = covariance, negative eigenvalues (rounding, subtraction) set to 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)
