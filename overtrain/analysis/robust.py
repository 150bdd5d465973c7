"""One cell must neither make nor mute a verdict unseen: without the outlying cell, and without each seed in turn.

A single finite outlier of 8 standard deviations between seeds mutes the tests: the power for a late rise falls from 74% to
3% (6 budgets, 3 seeds). The companion test leaves an outlying cell out where there is one, in the curve and in every
simulated curve alike, so that its level counts the search. It is no verdict: where the noise of one budget is truly larger,
its largest cell looks like an outlier and the companion finds too many rises.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

from overtrain.analysis.inflection import CurveTests

if TYPE_CHECKING:
    from overtrain.analysis.layout import Array, Layout

__all__ = ["Outlier", "companion", "leave_one_out", "outlier", "without_outlier"]

_Indices = np.ndarray[tuple[int], np.dtype[np.intp]]

_LEVEL = 0.01
"""Chance that a curve of normal noise is found to have an outlier."""

_SIMULATIONS = 5_000


class Outlier(NamedTuple):
    """A cell that lies far from what its budget and its seed lead to expect.

    Attributes:
        budget: in tokens.
        unit: index of the seed (or run).
        distance: from the expected value, in standard deviations of the other cells.
    """

    budget: int
    unit: int
    distance: float


def outlier(layout: Layout) -> Outlier | None:
    """Return the outlying cell, None where there is none or where it could not be told.

    That needs three paired seeds or more: of two seeds that disagree, neither is the outlier.
    """
    if not _can_tell(layout):
        return None
    place, distance, found = _largest(layout.cells[None])
    if not found[0]:
        return None
    budget, unit = np.unravel_index(int(place[0]), layout.cells.shape)
    return Outlier(layout.budgets[budget], int(unit), float(distance[0]))


def without_outlier(cells: Array) -> Array:
    """Replace an outlying cell by the value that its budget and its unit lead to expect, shape (..., budgets, units).

    Source: Grubbs (1950) for the test, with the externally studentised residual of the two-way layout at 1% for all cells
    together; Yates (1933) for the value of a missing plot.
    """
    flat = cells.reshape(-1, *cells.shape[-2:]).copy()
    place, _, found = _largest(flat)
    rows = np.flatnonzero(found)
    budget, unit = np.unravel_index(place[rows], cells.shape[-2:])
    share = (1 - 1 / cells.shape[-2]) * (1 - 1 / cells.shape[-1])
    flat[rows, budget, unit] -= _residuals(flat[rows])[np.arange(len(rows)), budget, unit] / share
    return flat.reshape(cells.shape)


def companion(tests: CurveTests) -> CurveTests | None:
    """Return the tests of the curve without its outlying cell; None where it has none."""
    if outlier(tests.layout) is None:
        return None
    layout = replace(tests.layout, cells=without_outlier(tests.layout.cells))
    return CurveTests(
        layout, tests.level, tests.pooled, tests.seed, simulations=_SIMULATIONS, transform=without_outlier
    )


def leave_one_out(tests: CurveTests) -> list[CurveTests]:
    """Return the tests of the curve without each unit in turn; none with fewer than three units."""
    layout = tests.layout
    units = layout.cells.shape[1]
    if units < 3 or not layout.paired:
        return []
    more = layout.interaction / (units - 1)
    kept = [np.arange(units) != unit for unit in range(units)]
    return [
        CurveTests(
            replace(
                layout,
                cells=layout.cells[:, rest],
                covariance=layout.covariance + np.diag(more),
                interaction=layout.interaction + more,
                diverged=None if layout.diverged is None else layout.diverged[:, rest],
            ),
            tests.level,
            tests.pooled,
            tests.seed,
            simulations=_SIMULATIONS,
        )
        for rest in kept
    ]


def _can_tell(layout: Layout) -> bool:
    budgets, units = layout.cells.shape
    return layout.paired and layout.diverged is None and units > 2 and budgets > 2


def _residuals(cells: Array) -> Array:
    left = cells - cells.mean(axis=-1, keepdims=True)
    return np.asarray(left - left.mean(axis=-2, keepdims=True))


def _largest(
    cells: Array,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return the place of the largest residual of each curve, its externally studentised size, and whether it is one."""
    budgets, units = cells.shape[-2:]
    flat = _residuals(cells).reshape(len(cells), -1)
    place = np.abs(flat).argmax(axis=1)
    share = (1 - 1 / budgets) * (1 - 1 / units)
    squared = flat[np.arange(len(flat)), place] ** 2 / share
    freedom = (budgets - 1) * (units - 1) - 1
    rest = np.maximum((flat**2).sum(axis=1) - squared, 0.0) / freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.sqrt(squared / rest)
    bound = float(stats.t.ppf(1 - _LEVEL / (2 * budgets * units), freedom))
    return place, distance, distance > bound
