"""Two checkpoints against each other (3T against 2.3T): paired by document, seeds as a second level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.contrasts import Contrasts, divide, maxima, pairs
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Array, Layout

__all__ = ["compare", "compare_all"]


def compare(
    frame: pd.DataFrame,
    before: int,
    after: int,
    *,
    by: Sequence[str] = (),
    level: float = 0.05,
    pooled: bool = False,
) -> pd.DataFrame:
    """Compare two budgets of one curve: effect with interval. For the one primary comparison, named before the run.

    The standard error rests on the paired differences of the two budgets alone: three seeds give two degrees of freedom, and
    the interval covers whatever the noise of the other budgets is. With the variance pooled over budgets it covered 88%
    where the noise between seeds grows 30 times along the curve.

    Args:
        frame: long form, lower is better.
        before: budget in tokens.
        after: budget in tokens.
        by: columns that name a curve.
        level: one minus the confidence.
        pooled: pool the variance between seeds over all budgets, which are then taken as equally noisy.

    Returns:
        One row per group: ``before``, ``after``, ``mean_before``, ``mean_after``, ``effect`` (after minus before; positive is
        worse), ``relative`` (effect over the size of the first mean), ``se``, ``df`` (paired or Welch; Cochran and Cox with
        documents), ``low``, ``high``,
        ``p_value`` (two-sided), ``n_runs``, ``n_seeds``, ``n_documents``, ``covers``, ``missing``.

    Raises:
        DataError: a budget has no complete result.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        layout = assemble(part)
        i, j = (_place(layout, budget) for budget in (before, after))
        weights = np.zeros((1, len(layout.budgets)))
        weights[0, i], weights[0, j] = -1.0, 1.0
        contrasts = Contrasts(layout, weights, pooled)
        errors, degrees = (contrasts.errors, contrasts.freedom) if pooled else contrasts.separate
        effect, error, freedom = float(contrasts.estimates[0]), float(errors[0]), float(degrees[0])
        width = float(stats.t.ppf(1 - level / 2, freedom)) * error
        return pd.DataFrame(
            {
                "before": [before],
                "after": [after],
                "mean_before": [float(layout.means[i])],
                "mean_after": [float(layout.means[j])],
                "effect": [effect],
                "relative": [effect / abs(float(layout.means[i])) if layout.means[i] != 0 else np.nan],
                "se": [error],
                "df": [freedom],
                "low": [effect - width],
                "high": [effect + width],
                "p_value": [_two_sided(float(divide(contrasts.estimates, errors)[0]), freedom)],
                "n_runs": [layout.n_runs],
                "n_seeds": [layout.n_seeds],
                "n_documents": [layout.n_documents],
                "covers": [layout.covers],
                "missing": ["; ".join(layout.missing)],
            }
        )

    return per_group(frame, by, one)


def _two_sided(statistic: float, freedom: float) -> float:
    return float(2 * stats.t.sf(abs(statistic), freedom)) if np.isfinite(statistic) else np.nan


def _alone(contrasts: Contrasts, *, pooled: bool) -> Array:
    """Return the two-sided p-value of every contrast by itself."""
    errors, freedom = (contrasts.errors, contrasts.freedom) if pooled else contrasts.separate
    return np.asarray(2 * stats.t.sf(np.abs(divide(contrasts.estimates, errors)), freedom))


def _place(layout: Layout, budget: int) -> int:
    if budget not in layout.budgets:
        gaps = f" ({'; '.join(layout.missing)})" if layout.missing else ""
        raise DataError(
            f"budget {budget} has no complete result{gaps}; budgets with one: {', '.join(map(str, layout.budgets))}"
        )
    return layout.budgets.index(budget)


def compare_all(
    frame: pd.DataFrame, *, by: Sequence[str] = (), level: float = 0.05, pooled: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Compare every two budgets of a curve, adjusted together by the distribution of the largest statistic (max-T).

    Returns:
        One row per group and pair: ``before``, ``after``, ``effect``, ``se``, ``low``, ``high`` (simultaneous),
        ``p_value`` (one pair alone), ``p_adjusted`` (max-T, two-sided), ``missing``.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        layout = assemble(part)
        weights, (first, second) = pairs(len(layout.budgets))
        contrasts = Contrasts(layout, weights, pooled)
        statistics = np.abs(contrasts.statistics)
        known = len(weights) > 0 and bool(np.isfinite(contrasts.errors).all())
        adjusted, critical = np.full(len(weights), np.nan), np.nan
        if known:
            every = np.arange(len(weights))
            sides = [(every, np.ones(len(every))), (every, -np.ones(len(every)))]
            null = maxima(contrasts, sides, seed).max(axis=1)
            critical = float(np.quantile(null, 1 - contrasts.calibrated(level)))
            shares = (1 + (null[:, None] >= statistics).sum(axis=0)) / (1 + len(null))
            adjusted = np.minimum(shares / contrasts.calibrated(1.0), 1.0)
        budgets = np.array(layout.budgets)
        return pd.DataFrame(
            {
                "before": budgets[first],
                "after": budgets[second],
                "effect": contrasts.estimates,
                "se": contrasts.errors,
                "low": contrasts.estimates - critical * contrasts.errors,
                "high": contrasts.estimates + critical * contrasts.errors,
                "p_value": _alone(contrasts, pooled=pooled),
                "p_adjusted": adjusted,
                "missing": "; ".join(layout.missing),
            }
        )

    return per_group(frame, by, one)
