"""Jitter: how much neighbouring checkpoints differ, a few thousand steps either side, where they exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from overtrain.analysis.contrasts import Contrasts
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["jitter"]


def jitter(frame: pd.DataFrame, tolerance: float = 0.02, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Measure the variation among neighbouring checkpoints of one run beyond seeds and documents.

    Budgets belong together while each is within ``tolerance`` (a share) of the one before. One run's jitter is no
    substitute for a second pre-training: it is a lower bound of what another run would change.

    Returns:
        One row per group of ``by`` and neighbourhood with two budgets or more: ``first``, ``last``, ``n_budgets``, ``sd``
        (of the budgets' means), ``sd_expected`` (what seeds and documents alone explain) and ``sd_jitter``
        (``sqrt(max(sd^2 - sd_expected^2, 0))``). No rows where there are no neighbours.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        layout = assemble(part)
        budgets = np.array(layout.budgets, float)
        breaks = np.flatnonzero(np.diff(budgets) > tolerance * budgets[:-1]) + 1
        rows = []
        for members in np.split(np.arange(len(budgets)), breaks):
            count = len(members)
            if count < 2:
                continue
            about = np.zeros((count, len(budgets)))
            about[np.arange(count), members] = 1.0
            about[:, members] -= 1 / count
            contrasts = Contrasts(layout, about, pooled=True)
            spread = float((contrasts.estimates**2).sum() / (count - 1))
            expected = float((contrasts.errors**2).sum() / (count - 1))
            rows.append(
                {
                    "first": layout.budgets[members[0]],
                    "last": layout.budgets[members[-1]],
                    "n_budgets": count,
                    "sd": spread**0.5,
                    "sd_expected": expected**0.5,
                    "sd_jitter": max(spread - expected, 0.0) ** 0.5 if np.isfinite(expected) else np.nan,
                }
            )
        return pd.DataFrame(rows, columns=["first", "last", "n_budgets", "sd", "sd_expected", "sd_jitter"])

    return per_group(frame, by, one)
