"""The shape of a curve from its tests: turn, U, plateau, monotone, or inconclusive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from overtrain.analysis.inflection import CurveTests

__all__ = ["Shape", "classify", "equivalent"]

Shape = Literal["turn", "U", "plateau", "monotone", "inconclusive"]


def equivalent(tests: CurveTests, margin: float | None) -> bool:
    """Return whether every two budgets differ by less than ``margin``: two one-sided tests per pair, all must reject.

    Each pair is tested by its own paired differences, whose level is exact whatever the noise of the other budgets is.
    """
    if margin is None or not tests.known or tests.layout.diverged is not None:
        return False
    contrasts = tests.contrasts
    errors, freedom = (contrasts.errors, contrasts.freedom) if tests.pooled else contrasts.separate
    t = stats.t.ppf(1 - tests.level, freedom)
    return bool((np.abs(contrasts.estimates) + t * errors < margin).all())


def classify(tests: CurveTests, margin: float | None = None) -> Shape:
    """Return the verdict of ``tests``; see `overtrain.analysis.verdict.verdict`."""
    if not tests.known:
        return "inconclusive"
    critical = tests.critical[0]
    rises, falls = tests.largest_rise[0] > critical, tests.largest_fall[0] > critical
    if rises and not tests.may_be_minimum[-1]:
        return "U" if tests.fall_then_rise[0] > critical else "turn"
    if tests.layout.diverged is not None:
        return "turn" if tests.diverges else "inconclusive"
    if equivalent(tests, margin):
        return "plateau"
    if falls and not rises and tests.may_be_minimum[-1]:
        return "monotone"
    return "inconclusive"
