"""Studentised bootstrap of a difference of budgets' means: intervals that assume no normal distribution.

Every replicate is divided by its own standard error: with 3 seeds a percentile bootstrap over seeds covers 74% instead
of 95%. Runs are resampled whole (all budgets of a run together), residuals of seeds are pooled over budgets and inflated
by sqrt(S / (S - 1)), and documents are crossed with both: one draw of documents for all budgets and seeds.

Deviation: below five runs, resampling them whole has too few outcomes (three runs: ten, of which three have no variance;
measured, the interval covers nothing or everything). Their run-by-budget residuals are then pooled over budgets and
inflated, as those of seeds are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.contrasts import Contrasts, combine, divide, unit_variance
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Array, Layout

__all__ = ["MIN_WHOLE_RUNS", "bootstrap_difference", "resample_units", "unit_residuals"]

MIN_WHOLE_RUNS = 5
"""From this many runs on, runs are resampled whole."""

_REPLICATES = 2_000
_CHUNK = 4_000_000


def unit_residuals(cells: Array, *, paired: bool) -> Array:
    """Return what a unit deviates at a budget, inflated to the variance of a unit; shape and NaN as ``cells``.

    Args:
        cells: shape (budgets, units).
        paired: remove what a unit adds at every budget as well.
    """
    budgets = len(cells)
    counts = np.isfinite(cells).sum(axis=1, keepdims=True)
    left = cells - np.nanmean(cells, axis=1, keepdims=True)
    left = left * np.sqrt(counts / np.maximum(counts - 1, 1))
    if not paired or budgets == 1:
        return np.asarray(left)
    return np.asarray((left - left.mean(axis=0)) * np.sqrt(budgets / (budgets - 1)))


def resample_units(layout: Layout, rng: np.random.Generator, size: int) -> Array:
    """Draw unit values of ``size`` replicates about the observed means, shape (size, budgets, units)."""
    budgets, units = layout.cells.shape
    if units == 1:
        return np.broadcast_to(layout.cells, (size, budgets, 1))
    residuals = unit_residuals(layout.cells, paired=layout.paired)
    if layout.n_runs >= MIN_WHOLE_RUNS and layout.paired:
        drawn = residuals[:, rng.integers(0, units, (size, units))].transpose(1, 0, 2)
    else:
        drawn = rng.choice(residuals[np.isfinite(residuals)], (size, budgets, units))
    absent = np.where(np.isfinite(layout.cells), 0.0, np.nan)
    return np.asarray(layout.means[:, None] + drawn + absent)


def bootstrap_difference(
    frame: pd.DataFrame,
    before: int,
    after: int,
    *,
    by: Sequence[str] = (),
    level: float = 0.05,
    replicates: int = _REPLICATES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the studentised bootstrap interval of one budget's mean minus another's.

    Args:
        frame: the long form; its other budgets help to estimate the variance between seeds.
        before: budget in tokens.
        after: budget in tokens.
        by: columns that name a curve.
        level: one minus the confidence.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        One row per group: ``before``, ``after``, ``effect``, ``se``, ``low``, ``high``, ``covers``, ``missing``; the
        interval is missing where nothing is repeated.

    Raises:
        DataError: a budget has no complete result, or the budgets do not share their documents.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        layout = assemble(part)
        for budget in (before, after):
            if budget not in layout.budgets:
                raise DataError(
                    f"budget {budget} has no complete result; budgets: {', '.join(map(str, layout.budgets))}"
                )
        if layout.n_documents > 1 and layout.residuals is None:
            raise DataError("the budgets share no documents; `compare` treats unshared documents")
        weights = np.zeros((1, len(layout.budgets)))
        weights[0, layout.budgets.index(before)] = -1.0
        weights[0, layout.budgets.index(after)] = 1.0
        contrasts = Contrasts(layout, weights)
        effect, error = float(contrasts.estimates[0]), float(contrasts.errors[0])
        low = high = np.nan
        if np.isfinite(error) and error > 0:
            t = _replicate(contrasts, np.random.default_rng(seed), replicates)
            upper, lower = np.quantile(t[np.isfinite(t)], [1 - level / 2, level / 2])
            low, high = effect - upper * error, effect - lower * error
        return pd.DataFrame(
            {
                "before": [before],
                "after": [after],
                "effect": [effect],
                "se": [error],
                "low": [low],
                "high": [high],
                "covers": [layout.covers],
                "missing": ["; ".join(layout.missing)],
            }
        )

    return per_group(frame, by, one)


def _replicate(contrasts: Contrasts, rng: np.random.Generator, replicates: int) -> Array:
    """Return (replicate's estimate - estimate) / replicate's standard error, shape (replicates,)."""
    layout, weights = contrasts.layout, contrasts.weights[0]
    cells = resample_units(layout, rng, replicates)
    variance, freedom = unit_variance(cells, paired=layout.paired, pooled=contrasts.pooled)
    units = (variance / layout.counts) @ weights**2 if freedom > 0 else np.zeros(replicates)
    shift = np.nanmean(cells, axis=-1) @ weights - contrasts.estimates[0]
    documents = np.zeros(replicates)
    if layout.residuals is not None:
        count = layout.n_documents
        score = weights @ layout.residuals * np.sqrt(count / (count - 1))
        step = max(1, _CHUNK // count)
        for start in range(0, replicates, step):
            drawn = score[rng.integers(0, count, (min(step, replicates - start), count))]
            shift[start : start + step] += drawn.mean(axis=1)
            documents[start : start + step] = drawn.var(axis=1, ddof=1) / count
    twice = weights**2 @ layout.interaction
    return divide(shift, np.sqrt(combine(units, documents, twice)))
