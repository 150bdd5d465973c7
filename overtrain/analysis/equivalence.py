"""Whether two checkpoints are equally good: two one-sided tests against a margin that was fixed before the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from model_wrappers.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DIFFERENT", "EQUAL", "UNDECIDED", "equivalence"]

EQUAL, DIFFERENT, UNDECIDED = "equal", "different", "undecided"


def equivalence(compared: pd.DataFrame, margin: float | pd.Series, *, level: float = 0.05) -> pd.DataFrame:
    """Test every comparison for equality within ``margin``. A difference that is not significant is no such evidence.

    Args:
        compared: rows of `overtrain.analysis.compare.compare`: ``effect``, ``se`` and ``df`` are read.
        margin: largest difference that counts as none, in the units of ``effect``; one for all rows or one per row.
        level: chance of calling two checkpoints equal whose difference is exactly the margin.

    Returns:
        ``compared`` with ``margin``; ``equal_low`` and ``equal_high``, the interval of confidence 1 - 2 ``level``; ``p_equal``,
        the larger p-value of the two one-sided tests; and ``equality``: `EQUAL` where that interval lies within the margin,
        `DIFFERENT` where all of it lies outside, `UNDECIDED` otherwise and where the standard error is unknown.

    Raises:
        DataError: a margin is not above 0.

    Source: Schuirmann (1987), A comparison of the two one-sided tests procedure and the power approach, J. Pharmacokinet.
    Biopharm. 15, 657-680.
    """
    table = compared.assign(margin=margin)
    if not (table["margin"] > 0).all():
        raise DataError(
            f"margin={margin}: a difference that counts as none must be above 0; give a larger plateau_margin"
        )
    effect, freedom = table["effect"], table["df"]
    error = table["se"].where(table["se"] > 0)
    width = stats.t.ppf(1 - level, freedom) * error
    low, high = effect - width, effect + width
    above = stats.t.sf((effect + table["margin"]) / error, freedom)  # against a difference of -margin or less
    below = stats.t.cdf((effect - table["margin"]) / error, freedom)  # against one of +margin or more
    within = (low > -table["margin"]) & (high < table["margin"])
    outside = (low > table["margin"]) | (high < -table["margin"])
    return table.assign(
        equal_low=low,
        equal_high=high,
        p_equal=np.maximum(above, below),
        equality=np.select([within, outside], [EQUAL, DIFFERENT], UNDECIDED),
    )
