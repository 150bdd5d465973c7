"""Distance from the base weights against learning rate (paper, Appendix C.1, Figure 8).

The paper finds the distance "approximately directly proportional to the learning rate and independent of the amount of
pre-training". On log scales that is a slope of 1 against the rate and of 0 against tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.long import per_group, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Array

__all__ = ["distance_law", "distance_points"]


def distance_points(frame: pd.DataFrame, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Average the logarithm of the distance over seeds and runs, for the figure.

    Args:
        frame: ``budget``, ``rate``, ``distance`` (positive), one row per tuned cell.
        by: columns that name a curve.

    Returns:
        One row per group, budget and rate: ``budget``, ``rate``, ``distance`` (geometric mean), ``n_cells``,
        ``n_missing``.
    """
    require(frame, ["budget", "rate", "distance"])
    keys = [*by, "budget", "rate"]
    data = frame.assign(log=np.log(frame["distance"].where(frame["distance"] > 0)))
    grouped = data.groupby(keys, dropna=False)["log"]
    table = grouped.agg(["mean", "count", "size"]).reset_index()
    return table.assign(
        distance=np.exp(table["mean"]), n_cells=table["count"], n_missing=table["size"] - table["count"]
    ).drop(columns=["mean", "count", "size"])


def distance_law(frame: pd.DataFrame, level: float = 0.05, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Fit log distance = a + b log rate + c log2 tokens, with checkpoints as the independent points.

    Cells of one checkpoint share what is particular to that checkpoint: their seeds and rates are no independent points (a
    fit over all cells covered 55% instead of 95%). The slope over rates is therefore fitted within each checkpoint and
    averaged over checkpoints; the slope over tokens is fitted to the checkpoints' means, taken at the mean rate.

    Source: the summary-measures analysis of Frison and Pocock (1992); with one rate grid for all checkpoints the estimates
    are those of least squares over all cells.

    Args:
        frame: as for `distance_points`; rows with a rate or distance of 0, or missing, are left out and counted.
        level: one minus the confidence of both intervals.
        by: columns that name a curve.

    Returns:
        One row per group: ``rate_slope`` with ``rate_low`` and ``rate_high`` (1: proportional), ``tokens_slope`` with
        ``tokens_low`` and ``tokens_high`` (relative change per doubling of tokens, on the log scale; 0: independent),
        ``proportional`` and ``independent`` (whether 1 and 0 lie in the intervals), ``r_squared`` (over cells), ``n_cells``,
        ``n_checkpoints``, ``n_left_out``. A slope whose axis has one value is missing; so is an interval that would rest on
        one checkpoint (rates) or on two (tokens).

    Raises:
        DataError: fewer than three usable rows.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        require(part, ["budget", "rate", "distance"])
        used = part[(part["rate"] > 0) & (part["distance"] > 0) & np.isfinite(part["distance"].astype(float))]
        if len(used) < 3:
            raise DataError(f"{len(used)} cells have a learning rate and a distance; the fit needs three")
        keys = [column for column in ("run", "budget") if column in used.columns]
        checkpoint = used.groupby(keys, sort=True).ngroup().to_numpy()
        x = np.log(used["rate"].to_numpy(float))
        y = np.log(used["distance"].to_numpy(float))
        tokens = np.log2(used["budget"].to_numpy(float))
        count = int(checkpoint.max()) + 1
        slopes = np.array([_slope(x[checkpoint == k], y[checkpoint == k])[0] for k in range(count)])
        rate, rate_width = _mean(slopes[np.isfinite(slopes)], level)
        within = 0.0 if np.isnan(rate) else rate
        means = np.array([np.mean((y - within * (x - x.mean()))[checkpoint == k]) for k in range(count)])
        places = np.array([tokens[checkpoint == k][0] for k in range(count)])
        slope, width = _slope(places, means, level)
        fitted = means.mean() + within * (x - x.mean())
        fitted = fitted + (0.0 if np.isnan(slope) else slope) * (tokens - places.mean())
        total = float(((y - y.mean()) ** 2).sum())
        return pd.DataFrame(
            {
                "rate_slope": [rate],
                "rate_low": [rate - rate_width],
                "rate_high": [rate + rate_width],
                "proportional": [bool(abs(rate - 1) <= rate_width)],
                "tokens_slope": [slope],
                "tokens_low": [slope - width],
                "tokens_high": [slope + width],
                "independent": [bool(abs(slope) <= width)],
                "r_squared": [1 - float(((y - fitted) ** 2).sum()) / total if total > 0 else np.nan],
                "n_cells": [len(used)],
                "n_checkpoints": [count],
                "n_left_out": [len(part) - len(used)],
            }
        )

    return per_group(frame, by, one)


def _mean(values: Array, level: float) -> tuple[float, float]:
    """Return the mean and the half width of its t interval; NaN where there are too few values."""
    if len(values) < 2:
        return float(values[0]) if len(values) else np.nan, np.nan
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(stats.t.ppf(1 - level / 2, len(values) - 1) * error)


def _slope(x: Array, y: Array, level: float = 0.05) -> tuple[float, float]:
    """Return the least-squares slope and the half width of its t interval; NaN where there are too few points."""
    about = x - x.mean()
    length = float(about @ about)
    if length == 0:
        return np.nan, np.nan
    slope = float(about @ y) / length
    freedom = len(x) - 2
    if freedom < 1:
        return slope, np.nan
    left = y - y.mean() - slope * about
    return slope, float(stats.t.ppf(1 - level / 2, freedom) * np.sqrt(left @ left / freedom / length))
