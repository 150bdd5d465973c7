"""Checkpoints at the same base loss: does a curve differ for more than how good its base models are?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.long import require

__all__ = ["matched_base_loss"]


def matched_base_loss(points: pd.DataFrame, reference: str, other: str, at: int = 5) -> pd.DataFrame:
    """Compare two groups of checkpoints at equal base loss, by linear interpolation between checkpoints.

    Never compare forgetting on C4 across families whose pre-training mixtures differ (one of them saw C4).

    Args:
        points: one row per checkpoint: ``group`` (a family, a learning rate, a trunk), ``base`` (loss of the unmodified
            model), ``value`` (of the modified one) and ``se`` of ``value``.
        reference: a value of ``group``.
        other: a value of ``group``.
        at: number of base losses, evenly spaced over the range that both groups cover.

    Returns:
        One row per base loss: ``base``, ``reference``, ``other``, ``difference`` (other minus reference), ``se``, ``low`` and
        ``high`` (95%, normal; the base losses are taken as known). Nothing is extrapolated: without a common range there
        are no rows.

    Raises:
        DataError: a group has fewer than two checkpoints with values.
    """
    require(points, ["group", "base", "value", "se"])
    curves = []
    for name in (reference, other):
        part = points[points["group"] == name].dropna(subset=["base", "value"]).sort_values("base")
        if len(part) < 2:
            known = ", ".join(sorted(set(points["group"].astype(str))))
            raise DataError(f"group {name!r} has {len(part)} checkpoints with values, two are needed; groups: {known}")
        curves.append(part)
    low = max(float(part["base"].min()) for part in curves)
    high = min(float(part["base"].max()) for part in curves)
    columns = ["base", "reference", "other", "difference", "se", "low", "high"]
    if low > high:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in columns})
    grid = np.linspace(low, high, at)
    values, variances = [], []
    for part in curves:
        base, value, error = (part[name].to_numpy(float) for name in ("base", "value", "se"))
        upper = np.clip(np.searchsorted(base, grid), 1, len(base) - 1)
        width = base[upper] - base[upper - 1]
        share = np.where(width > 0, (grid - base[upper - 1]) / np.where(width > 0, width, 1.0), 0.5)
        values.append((1 - share) * value[upper - 1] + share * value[upper])
        variances.append(((1 - share) * error[upper - 1]) ** 2 + (share * error[upper]) ** 2)
    difference, error = values[1] - values[0], np.sqrt(variances[0] + variances[1])
    table = [grid, values[0], values[1], difference, error, difference - 1.96 * error, difference + 1.96 * error]
    return pd.DataFrame(dict(zip(columns, table, strict=True)))
