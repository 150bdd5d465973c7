"""What could change a verdict: jitter of checkpoints, one outlying cell, one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from overtrain.analysis.noise import unit_variance
from overtrain.analysis.robust import companion, leave_one_out, outlier
from overtrain.analysis.shape import classify

if TYPE_CHECKING:
    from overtrain.analysis.inflection import CurveTests

__all__ = ["Stability", "stability"]


class Stability(NamedTuple):
    """What stands beside a verdict.

    Attributes:
        jitter_measured: standard deviation of the jitter of neighbouring checkpoints; NaN where none was measured.
        jitter_tolerated: where none was measured, the standard deviation up to which the established rise (or, without one,
            the fall) stands, in the unit of the curve; NaN where nothing is established.
        jitter_tolerated_in_seed_sd: the same in standard deviations between seeds.
        outlier_budget: tokens of the outlying cell; 0 where there is none.
        outlier_distance: how far it lies off, in standard deviations of the other cells.
        verdict_without_outlier: verdict of the companion test; empty where no cell is an outlier.
        verdicts_without_one_seed: verdict without each seed in turn; empty with fewer than three seeds.
        increase_low: smallest of the largest rise's increases when one seed is left out; NaN without a rise.
        increase_high: the largest.
    """

    jitter_measured: float
    jitter_tolerated: float
    jitter_tolerated_in_seed_sd: float
    outlier_budget: int
    outlier_distance: float
    verdict_without_outlier: str
    verdicts_without_one_seed: str
    increase_low: float
    increase_high: float


def stability(tests: CurveTests, margin: float | None = None) -> Stability:
    """Return what could change the verdict of ``tests``.

    Verdicts without an outlier or a seed are left out where the critical values come from a bootstrap that repeats a
    selection, because they would have to select again.
    """
    layout = tests.layout
    again = tests.known and tests.null_maxima is None
    odd = outlier(layout) if again else None
    without = companion(tests) if odd else None
    others = leave_one_out(tests) if again else []
    low, high = _increases(tests)
    tolerated = _tolerated(tests)
    variance, freedom = unit_variance(layout.cells, paired=layout.paired, pooled=True)
    between = float(np.sqrt(variance.mean())) if freedom > 0 else 0.0
    return Stability(
        jitter_measured=float("nan") if layout.jitter is None else layout.jitter.variance**0.5,
        jitter_tolerated=tolerated,
        jitter_tolerated_in_seed_sd=tolerated / between if between > 0 else float("nan"),
        outlier_budget=odd.budget if odd else 0,
        outlier_distance=odd.distance if odd else float("nan"),
        verdict_without_outlier=classify(without, margin) if without else "",
        verdicts_without_one_seed=", ".join(classify(other, margin) for other in others),
        increase_low=low,
        increase_high=high,
    )


def _tolerated(tests: CurveTests) -> float:
    if not tests.known or tests.layout.jitter is not None:
        return float("nan")
    if tests.largest_rise[0] > tests.critical[0]:
        return tests.jitter_of_rise
    return tests.jitter_of_fall if tests.largest_fall[0] > tests.critical[0] else float("nan")


def _increases(tests: CurveTests) -> tuple[float, float]:
    """Return the smallest and the largest increase of the largest rise when one unit is left out."""
    cells = tests.layout.cells
    if not tests.known or tests.largest_rise[0] <= 0 or not tests.layout.paired or cells.shape[1] < 2:
        return float("nan"), float("nan")
    _, i, j = tests.largest_rise
    change = cells[j] - cells[i]
    left = (change.sum() - change) / (len(change) - 1)
    return float(left.min()), float(left.max())
