"""One family of verdicts: what a turn is worth when many curves were looked at.

A turn found at 5% on one curve is weak where forty were tested: 22% of studies of ten flat benchmarks, and 69% of forty, hold
some false turn. The family is declared by rule: modified curves only, and one metric of each benchmark, so that neither base
curves nor copies of a metric count. Its verdicts are adjusted by the largest rise statistic over all members; the seeds that
members share are shared in the simulated studies, too.

Source: Westfall and Young (1993), single-step max-T; each statistic is divided by its own critical value, because members
differ in their documents and seeds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from overtrain.analysis.contrasts import maxima
from overtrain.analysis.inflection import selections
from overtrain.analysis.long import require
from overtrain.analysis.shape import classify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.inflection import CurveTests
    from overtrain.analysis.layout import Array, Layout

__all__ = ["adjusted_verdicts", "expected_false", "in_family"]

_SIMULATIONS = 4_000

_SHARED = 0.5
"""Share of the units' variance that simulated members draw in common. Their residuals have few degrees of freedom, so the
correlations between members are estimated badly; halving them errs towards independence, which adjusts more."""


def in_family(
    verdicts: pd.DataFrame, *, metrics: Sequence[str] = (), curve: Sequence[str] = ("family", "line", "endpoint")
) -> pd.Series:
    """Say which rows make up the family: no base curve, and of every curve one metric.

    Args:
        verdicts: one row per curve and metric with ``kind``, ``metric`` and the columns ``curve``.
        metrics: in the order of preference; metrics that are not named come after, in the order of the rows.
        curve: columns that name a curve apart from its metric.

    Returns:
        Booleans with the index of ``verdicts``.
    """
    require(verdicts, ["kind", "metric", *curve])
    order = {metric: place for place, metric in enumerate(metrics)}
    rank = verdicts["metric"].map(lambda metric: order.get(metric, len(order)))
    modified = verdicts.assign(_rank=rank, _place=np.arange(len(verdicts)))[verdicts["kind"] != "base"]
    chosen = modified.sort_values(["_rank", "_place"]).drop_duplicates(list(curve)).index
    return pd.Series(verdicts.index.isin(chosen), index=verdicts.index)


def expected_false(members: int, level: float = 0.05) -> float:
    """Return how many of ``members`` unadjusted findings chance alone would be expected to make, at most.

    >>> expected_false(40)
    2.0
    """
    return members * level


def adjusted_verdicts(
    members: Sequence[CurveTests],
    margins: Sequence[float | None] = (),
    *,
    seed: int = 0,
    simulations: int = _SIMULATIONS,
) -> pd.DataFrame:
    """Return the verdicts of a family, adjusted for its size.

    Args:
        members: the tests of all curves of the family, and of nothing else.
        margins: of each member; see `overtrain.analysis.verdict.verdict`.
        seed: of the simulation.
        simulations: simulated studies.

    Returns:
        One row per member, in their order: ``verdict_family`` (the verdict at the family's level), ``p_rise_family`` (of the
        largest rise; missing where nothing can be estimated), ``critical_family``, ``n_family`` (members with a standard
        error) and ``false_expected`` (false findings to expect among as many unadjusted verdicts).
    """
    # A member without any noise (all documents alike) has no finite critical value, and nothing can be adjusted.
    known = [place for place, tests in enumerate(members) if tests.known and np.isfinite(tests.critical[0])]
    margins = margins or [None] * len(members)
    factor, p_values = _adjust([members[place] for place in known], seed, simulations) if known else (1.0, np.empty(0))
    p_family = np.full(len(members), np.nan)
    p_family[known] = p_values
    return pd.DataFrame(
        {
            "verdict_family": [
                classify(tests.stricter(factor), margin) for tests, margin in zip(members, margins, strict=True)
            ],
            "p_rise_family": p_family,
            "critical_family": [
                float(tests.critical[0]) * factor if place in set(known) else np.nan
                for place, tests in enumerate(members)
            ],
            "n_family": len(known),
            "false_expected": expected_false(len(known), members[0].level) if members else 0.0,
        }
    )


def _adjust(members: Sequence[CurveTests], seed: int, simulations: int) -> tuple[float, Array]:
    """Return the factor on all critical values, and the adjusted p-value of each member's largest rise."""
    if len(members) == 1:
        return 1.0, np.array([members[0].p_value(members[0].largest_rise[0])])
    drawn = [_rises(tests, place, seed, simulations) for place, tests in enumerate(members)]
    size = min(len(part) for part in drawn)
    level, calibration = members[0].level, min(tests.contrasts.calibrated(1.0) for tests in members)
    worst = np.full(size, -np.inf)
    for tests, part in zip(members, drawn, strict=True):
        own = float(np.quantile(part, 1 - tests.contrasts.calibrated(tests.tested_level)))
        worst = np.maximum(worst, part[:size] / own if np.isfinite(own) and own > 0 else -np.inf)
    factor = max(float(np.quantile(worst, 1 - calibration * level)), 1.0)
    observed = [tests.largest_rise[0] / tests.critical[0] for tests in members]
    shares = np.array([(1 + (worst >= value).sum()) / (1 + size) for value in observed])
    return factor, np.minimum(shares / calibration, 1.0)


def _rises(tests: CurveTests, place: int, seed: int, simulations: int) -> Array:
    """Return the largest rise of a member in every simulated study, shape (studies,)."""
    if tests.null_maxima is not None:
        return tests.null_maxima[:, 0]  # its replicates draw the same seeds for every member
    groups = selections(len(tests.layout.budgets))[:1]
    noise = _noise(tests.layout, place, seed, simulations)
    return maxima(tests.contrasts, groups, seed + 1 + place, simulations, noise=noise)[:, 0]


def _noise(layout: Layout, place: int, seed: int, simulations: int) -> Array | None:
    """Return standard normal numbers for the units; members that deviate alike at the same cells get alike numbers."""
    if not layout.paired or layout.cells.shape[1] < 2:
        return None
    left = layout.cells - layout.cells.mean(axis=1, keepdims=True)
    left = left - left.mean(axis=0)
    length = float(np.sqrt((left**2).sum()))
    shape = (simulations, *layout.cells.shape)
    own = np.random.default_rng([seed, 1, place]).standard_normal(shape)
    if length == 0:
        return own
    shared = (_common(seed, simulations, left.size) @ (left.ravel() / length).astype(np.float32)).reshape(shape)
    return np.asarray(np.sqrt(_SHARED) * shared + np.sqrt(1 - _SHARED) * own)


@lru_cache(maxsize=1)
def _common(seed: int, simulations: int, cells: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return what all members share, shape (simulations * cells, cells)."""
    rng = np.random.default_rng([seed, 0])
    return rng.standard_normal((simulations * cells, cells), dtype=np.float32)
