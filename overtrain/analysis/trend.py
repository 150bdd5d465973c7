"""Does a curve grow with budget? A max-T trend test of the Williams type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from overtrain.analysis.contrasts import SIMULATIONS, Contrasts, maxima
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Array

__all__ = ["trend", "williams"]


_SHARE = 0.8
"""Share of the level at which critical values are read: every contrast holds the first budget, so that the error of the noise
model weighs more than in the tests of all pairs (6.2% instead of 5% where seeds have slopes of their own)."""


def williams(budgets: int) -> Array:
    """Return the contrasts of the mean of the last c budgets against the first, c = 1 ... budgets - 1.

    Source: Williams (1971) as multiple contrasts, Bretz (2006); equal weights because budgets have equal designs.

    >>> williams(3).tolist()
    [[-1.0, 0.0, 1.0], [-1.0, 0.5, 0.5]]
    """
    rows = np.zeros((budgets - 1, budgets))
    for count in range(1, budgets):
        rows[count - 1, -count:] = 1 / count
    rows[:, 0] = -1
    return rows


def trend(
    frame: pd.DataFrame,
    level: float = 0.05,
    *,
    by: Sequence[str] = (),
    pooled: bool = False,
    seed: int = 0,
    simulations: int = SIMULATIONS,
) -> pd.DataFrame:
    """Test whether values grow with budget, using the order of budgets only.

    Args:
        frame: long form, usually of `sensitivity`, in loss and, beside it, in perplexity.
        level: one-sided.
        by: columns that name a curve.
        pooled: see `overtrain.analysis.contrasts.unit_terms`.
        seed: of the simulation.
        simulations: simulated curves behind the critical value.

    Returns:
        One row per group: ``statistic`` and ``critical`` with ``p_value`` and ``grows``; the same against a decrease with
        ``statistic_down``, ``p_value_down`` and ``shrinks``; ``direction`` (grows, shrinks, both ways, not established);
        ``increase`` (last budget minus first) with ``se``; ``missing``. Each direction has level ``level``. A curve that is
        established to rise above and to fall below its first budget goes both ways: it neither grows nor shrinks.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        layout = assemble(part)
        budgets = len(layout.budgets)
        contrasts = Contrasts(layout, williams(budgets), pooled)
        known = budgets > 1 and bool(np.isfinite(contrasts.errors).all())
        row = {
            "statistic": np.nan,
            "critical": np.nan,
            "p_value": np.nan,
            "grows": False,
            "statistic_down": np.nan,
            "p_value_down": np.nan,
            "shrinks": False,
            "direction": "not established",
            "increase": float(contrasts.estimates[0]) if budgets > 1 else np.nan,
            "se": float(contrasts.errors[0]) if budgets > 1 else np.nan,
            "missing": "; ".join(layout.missing),
        }
        if known:
            read = contrasts.calibrated(1.0)
            read = read if read == 1.0 else _SHARE * read
            every = np.arange(budgets - 1)
            null = maxima(contrasts, [(every, np.ones(budgets - 1))], seed, simulations)[:, 0]
            critical = float(np.quantile(null, 1 - read * level))
            up, fall = float(contrasts.statistics.max()), float((-contrasts.statistics).max())
            direction = _direction(up > critical, fall > critical)
            row |= {
                "statistic": up,
                "critical": critical,
                "p_value": _p_value(null, up, read),
                "grows": direction == "grows",
                "statistic_down": fall,
                "p_value_down": _p_value(null, fall, read),
                "shrinks": direction == "shrinks",
                "direction": direction,
            }
        return pd.DataFrame([row])

    return per_group(frame, by, one)


def _direction(rises: bool, falls: bool) -> str:
    if rises and falls:
        return "both ways"
    return "grows" if rises else "shrinks" if falls else "not established"


def _p_value(null: Array, statistic: float, share: float) -> float:
    return min(float((1 + (null >= statistic).sum()) / (1 + len(null))) / share, 1.0)
