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

__all__ = ["distance_law", "distance_points"]


def distance_points(frame: pd.DataFrame, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Average the logarithm of the distance over seeds and runs, for the figure.

    Args:
        frame: ``budget``, ``learning_rate``, ``distance`` (positive), one row per tuned cell.
        by: columns that name a curve.

    Returns:
        One row per group, budget and rate: ``budget``, ``learning_rate``, ``distance`` (geometric mean), ``n_cells``,
        ``n_missing``.
    """
    require(frame, ["budget", "learning_rate", "distance"])
    keys = [*by, "budget", "learning_rate"]
    data = frame.assign(log=np.log(frame["distance"].where(frame["distance"] > 0)))
    grouped = data.groupby(keys, dropna=False)["log"]
    table = grouped.agg(["mean", "count", "size"]).reset_index()
    return table.assign(
        distance=np.exp(table["mean"]), n_cells=table["count"], n_missing=table["size"] - table["count"]
    ).drop(columns=["mean", "count", "size"])


def distance_law(frame: pd.DataFrame, level: float = 0.05, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Fit log distance = a + b log rate + c log2 tokens by least squares.

    Args:
        frame: as for `distance_points`; rows with a rate or distance of 0, or missing, are left out and counted.
        level: one minus the confidence of both intervals.
        by: columns that name a curve.

    Returns:
        One row per group: ``rate_slope`` with ``rate_low`` and ``rate_high`` (1: proportional), ``tokens_slope`` with
        ``tokens_low`` and ``tokens_high`` (relative change per doubling of tokens, on the log scale; 0: independent),
        ``proportional`` and ``independent`` (whether 1 and 0 lie in the intervals), ``r_squared``, ``n_cells``,
        ``n_left_out``. A slope whose axis has one value is missing.

    Raises:
        DataError: fewer than three usable rows.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        require(part, ["budget", "learning_rate", "distance"])
        used = part[(part["learning_rate"] > 0) & (part["distance"] > 0)]
        if len(used) < 3:
            raise DataError(f"{len(used)} cells have a learning rate and a distance; the fit needs three")
        axes = np.stack([np.log(used["learning_rate"].to_numpy(float)), np.log2(used["budget"].to_numpy(float))])
        y = np.log(used["distance"].to_numpy(float))
        varies = np.ptp(axes, axis=1) > 0
        design = np.column_stack([np.ones(len(y)), *axes[varies]])
        fit = np.linalg.lstsq(design, y, rcond=None)[0]
        left = y - design @ fit
        freedom = len(y) - design.shape[1]
        variance = float(left @ left) / freedom if freedom > 0 else np.nan
        errors = np.sqrt(np.diag(np.linalg.pinv(design.T @ design)) * variance)
        t = float(stats.t.ppf(1 - level / 2, freedom)) if freedom > 0 else np.nan
        slopes, widths = np.full(2, np.nan), np.full(2, np.nan)
        slopes[varies], widths[varies] = fit[1:], t * errors[1:]
        low, high = slopes - widths, slopes + widths
        total = float(((y - y.mean()) ** 2).sum())
        return pd.DataFrame(
            {
                "rate_slope": [slopes[0]],
                "rate_low": [low[0]],
                "rate_high": [high[0]],
                "proportional": [bool(low[0] <= 1 <= high[0])],
                "tokens_slope": [slopes[1]],
                "tokens_low": [low[1]],
                "tokens_high": [high[1]],
                "independent": [bool(low[1] <= 0 <= high[1])],
                "r_squared": [1 - float(left @ left) / total if total > 0 else np.nan],
                "n_cells": [len(used)],
                "n_left_out": [len(part) - len(used)],
            }
        )

    return per_group(frame, by, one)
