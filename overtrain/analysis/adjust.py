"""Adjusting p-values: one primary comparison is named before a study runs; everything else goes through here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from overtrain.analysis.long import per_group, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["holm"]


def holm(frame: pd.DataFrame, column: str = "p_value", *, by: Sequence[str] = (), level: float = 0.05) -> pd.DataFrame:
    """Add ``p_holm`` and ``significant``: p-values adjusted for all rows of a family.

    Step-down Bonferroni: the k-th smallest of m is multiplied by m - k + 1 and never falls below its predecessor. Valid
    under any dependence. Missing p-values stay missing, and do not count.

    Source: Holm (1979).

    >>> import pandas as pd
    >>> holm(pd.DataFrame({"p_value": [0.01, 0.04, 0.03]}))["p_holm"].round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    require(frame, [column])

    def one(part: pd.DataFrame) -> pd.DataFrame:
        values = part[column].to_numpy(float)
        known = np.flatnonzero(np.isfinite(values))
        order = known[np.argsort(values[known], kind="stable")]
        factors = np.arange(len(order), 0, -1)
        adjusted = np.full(len(values), np.nan)
        adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
        return part.drop(columns=list(by)).assign(p_holm=adjusted, significant=adjusted <= level)

    return per_group(frame, by, one)
