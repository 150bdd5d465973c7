"""Sensitivity: how much a modification costs at each budget (paper, Sections 3.3 and 3.4, Figures 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from model_wrappers.errors import DataError
from overtrain.analysis.long import COLUMNS, require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["sensitivity"]

_CELL = ["budget", "run", "seed"]


def sensitivity(
    modified: pd.DataFrame, base: pd.DataFrame, scale: Literal["loss", "perplexity"] = "loss"
) -> pd.DataFrame:
    """Return modified minus base, paired by document, as a long form for `summarise`, `trend` and `verdict`.

    In ``loss`` a document's value is the difference of its two scores. In ``perplexity`` the cell's value is
    exp(mean of the modified) - exp(mean of the base), and a document's is the value of which that is the weighted mean
    (delta method): its deviations are the documents' deviations in nats times the perplexities. The two can disagree on
    whether sensitivity grows.

    Args:
        modified: long form in nats; extra columns are kept.
        base: long form of the unmodified checkpoints, one cell per budget and run (its ``seed`` is not used).
        scale: see above.

    Returns:
        The long form of the differences. A cell is missing where either of the two is; so is a document that the base
        lacks.

    Raises:
        DataError: a column is missing, or the base has several cells for one budget and run.
    """
    require(modified, COLUMNS)
    require(base, COLUMNS)
    keys = ["budget", "run", "document"]
    left, right = modified.reset_index(drop=True), base[[*keys, "y"]].rename(columns={"y": "base_y"})
    if right.duplicated(keys).any():
        raise DataError("the base has several cells for one budget and run; pass the unmodified cells only")
    if left["document"].dtype != right["document"].dtype:  # one side without scores per document
        left, right = (side.assign(document=side["document"].astype(object)) for side in (left, right))
    joined = left.merge(right, on=keys, how="left")
    # A missing cell carries no document and matches nothing: it stays, with y missing.
    if scale == "loss":
        return joined.assign(y=joined["y"] - joined["base_y"]).drop(columns="base_y")
    both = joined["y"].notna() & joined["base_y"].notna()
    joined = joined.assign(weight=joined["weight"].where(both))
    by = [joined[c] if c != "seed" else joined[c].astype("Int64").fillna(-1) for c in _CELL]
    total = joined["weight"].groupby(by).transform("sum")

    def mean(column: str) -> pd.Series:
        return (joined[column] * joined["weight"]).groupby(by).transform("sum") / total.where(total > 0)

    modified_mean, base_mean = mean("y"), mean("base_y")
    up, down = np.exp(modified_mean), np.exp(base_mean)
    value = up - down + up * (joined["y"] - modified_mean) - down * (joined["base_y"] - base_mean)
    return joined.assign(y=value.where(both)).drop(columns="base_y")
