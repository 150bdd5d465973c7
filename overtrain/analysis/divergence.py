"""Cells that diverged are data: do they come later in pre-training than chance would place them?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from overtrain.analysis.layout import Array, Flags

__all__ = ["diverges_later"]


def diverges_later(diverged: Flags) -> float:
    """Return the one-sided p-value of "divergence comes at later budgets", by exact permutation within units.

    Given how many cells of a unit diverged, under the null each choice of budgets is equally likely. The statistic is the
    sum of the places of all diverged cells. Source: Page (1963), for events instead of ranks.

    Args:
        diverged: shape (budgets, units).

    >>> last = np.zeros((6, 3), bool)
    >>> last[-1] = True
    >>> round(diverges_later(last) * 6**3, 9)
    1.0
    """
    budgets = len(diverged)
    chances = np.ones(1)
    for unit in diverged.T:
        chances = np.convolve(chances, _sums(budgets, int(unit.sum())))
    observed = int((np.arange(budgets)[:, None] * diverged).sum())
    return float(min(chances[observed:].sum(), 1.0))


def _sums(budgets: int, count: int) -> Array:
    """Return the chance of each sum of ``count`` different places out of ``budgets``, all choices being equally likely."""
    ways = np.zeros((count + 1, budgets * count + 1))
    ways[0, 0] = 1.0
    for place in range(budgets):
        for chosen in range(min(place + 1, count), 0, -1):
            ways[chosen, place:] += ways[chosen - 1, : ways.shape[1] - place]
    return np.asarray(ways[count] / ways[count].sum())
