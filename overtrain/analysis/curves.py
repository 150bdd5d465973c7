"""The points of a curve with their error bars, and its sensitivity to a modification (paper, Sections 3.3 and 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from overtrain.analysis.contrasts import Contrasts
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group
from overtrain.analysis.noise import unit_variance
from overtrain.analysis.sensitivity import sensitivity
from overtrain.analysis.trend import trend

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["perplexity", "sensitivity", "summarise", "trend"]


def summarise(frame: pd.DataFrame, *, by: Sequence[str] = (), level: float = 0.05) -> pd.DataFrame:
    """Return mean, standard error and interval of every budget.

    ``se`` is that of the budget's own mean, for error bars: variance between seeds (or, with several, between runs)
    within budgets, pooled over budgets and never below the budget's own, and between documents. Differences between
    budgets that share seeds and documents are more precise than these bars suggest: ``se_step`` is the standard error of
    the difference from the budget before, paired.

    Returns:
        One row per group and budget: ``budget``, ``mean``, ``se``, ``low``, ``high`` (95% unless ``level`` says
        otherwise; a t interval), ``step``, ``se_step``, ``n_runs``, ``n_seeds``, ``n_documents``, ``n_diverged`` (cells
        that diverged: they count with the worst finite value of the curve), ``missing``. ``se`` is missing where nothing is
        repeated.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        layout = assemble(part)
        variance, freedom = unit_variance(layout.cells, paired=False, pooled=False)
        units, documents = variance / layout.counts, np.diag(layout.covariance)
        total = np.maximum(np.maximum(units, documents), units + documents - layout.interaction)
        known = freedom > 0 or layout.n_documents > 1
        error = np.sqrt(total) if known else np.full(len(total), np.nan)
        squares = units**2 / max(freedom, 1.0) + documents**2 / max(layout.n_documents - 1, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            width = stats.t.ppf(1 - level / 2, np.where(squares > 0, total**2 / squares, np.inf)) * error
        budgets = len(layout.budgets)
        steps = Contrasts(layout, np.eye(budgets)[1:] - np.eye(budgets)[:-1])
        return pd.DataFrame(
            {
                "budget": layout.budgets,
                "mean": layout.means,
                "se": error,
                "low": layout.means - width,
                "high": layout.means + width,
                "step": np.concatenate([[np.nan], steps.estimates]),
                "se_step": np.concatenate([[np.nan], steps.errors]),
                "n_runs": layout.n_runs,
                "n_seeds": layout.n_seeds,
                "n_documents": layout.n_documents,
                "n_diverged": 0 if layout.diverged is None else layout.diverged.sum(axis=1),
                "missing": "; ".join(layout.missing),
            }
        )

    return per_group(frame, by, one)


def perplexity(summary: pd.DataFrame) -> pd.DataFrame:
    """Add ``perplexity``, ``perplexity_low`` and ``perplexity_high`` to a `summarise` of nats per token, for display.

    The exponential of the mean logarithm and of the ends of its interval: perplexities themselves are never averaged.
    """
    return summary.assign(
        perplexity=np.exp(summary["mean"]),
        perplexity_low=np.exp(summary["low"]),
        perplexity_high=np.exp(summary["high"]),
    )
