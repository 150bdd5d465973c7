"""Jitter: how much neighbouring checkpoints differ, a few thousand steps either side, where they exist.

Where neighbours were evaluated, each neighbourhood becomes one budget and the jitter is part of every standard error. Where
none were, a verdict says up to which jitter it stands: a jitter of half a standard deviation between seeds already makes
turns of 9.5% of flat curves (6 budgets, 3 seeds).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from overtrain.analysis.contrasts import Contrasts
from overtrain.analysis.layout import Jitter, assemble
from overtrain.analysis.long import per_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Layout

__all__ = ["TOLERANCE", "jitter", "merge_neighbours"]

_Indices = np.ndarray[tuple[int], np.dtype[np.intp]]

TOLERANCE = 0.02
"""Checkpoints within this share of each other's tokens are neighbours."""


def jitter(frame: pd.DataFrame, tolerance: float = TOLERANCE, *, by: Sequence[str] = ()) -> pd.DataFrame:
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
        rows = []
        for members in _neighbourhoods(layout, tolerance):
            if len(members) < 2:
                continue
            spread, expected = (value / (len(members) - 1) for value in _squares(layout, members))
            rows.append(
                {
                    "first": layout.budgets[members[0]],
                    "last": layout.budgets[members[-1]],
                    "n_budgets": len(members),
                    "sd": spread**0.5,
                    "sd_expected": expected**0.5,
                    "sd_jitter": max(spread - expected, 0.0) ** 0.5 if np.isfinite(expected) else np.nan,
                }
            )
        return pd.DataFrame(rows, columns=["first", "last", "n_budgets", "sd", "sd_expected", "sd_jitter"])

    return per_group(frame, by, one)


def merge_neighbours(layout: Layout, tolerance: float = TOLERANCE) -> Layout:
    """Return the curve with one budget per neighbourhood and the jitter that its members show.

    A merged budget has the mean of its members and the tokens of the middle one. Jitter is pooled over neighbourhoods: the
    mean square of members about their neighbourhood, less what seeds and documents explain. A curve without neighbours, or
    whose budgets do not share their seeds, is returned as it is.
    """
    groups = _neighbourhoods(layout, tolerance)
    freedom = float(sum(len(members) - 1 for members in groups))
    if freedom == 0 or not np.isfinite(layout.cells).all():
        return layout
    squares = np.array([_squares(layout, members) for members in groups if len(members) > 1]).sum(axis=0) / freedom
    average = np.zeros((len(groups), len(layout.budgets)))
    for place, members in enumerate(groups):
        average[place, members] = 1 / len(members)
    return replace(
        layout,
        budgets=tuple(layout.budgets[members[len(members) // 2]] for members in groups),
        cells=average @ layout.cells,
        residuals=None if layout.residuals is None else average @ layout.residuals,
        covariance=average @ layout.covariance @ average.T,
        interaction=average**2 @ layout.interaction,
        diverged=None if layout.diverged is None else (average > 0).astype(float) @ layout.diverged > 0,
        jitter=Jitter(
            square=float(squares[0]),
            expected=float(np.nan_to_num(squares[1])),
            freedom=freedom,
            members=np.array([float(len(members)) for members in groups]),
        ),
    )


def _neighbourhoods(layout: Layout, tolerance: float) -> list[_Indices]:
    budgets = np.array(layout.budgets, float)
    breaks = np.flatnonzero(np.diff(budgets) > tolerance * budgets[:-1]) + 1
    return np.split(np.arange(len(budgets)), breaks)


def _squares(layout: Layout, members: _Indices) -> tuple[float, float]:
    """Return the sum of squares of the members about their mean, and what seeds and documents explain of it."""
    about = np.zeros((len(members), len(layout.budgets)))
    about[np.arange(len(members)), members] = 1.0
    about[:, members] -= 1 / len(members)
    contrasts = Contrasts(layout, about, pooled=True)
    return float((contrasts.estimates**2).sum()), float((contrasts.errors**2).sum())
