"""Single rows of the frames in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from overtrain.analysis.verdict import format_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["comparison", "minimum"]


def minimum(row: Mapping[Any, Any]) -> str:
    """Return where a curve's minimum lies, as an open interval between budgets."""
    after, before = row["after"], row["before"]
    if pd.isna(after) and pd.isna(before):
        return "anywhere"
    if pd.isna(after):
        return f"before {format_tokens(before)}"
    if pd.isna(before):
        return f"after {format_tokens(after)}"
    return f"between {format_tokens(after)} and {format_tokens(before)}"


def comparison(row: Mapping[Any, Any]) -> str:
    """Say how two budgets of one curve differ, in the metric's own direction."""
    budgets = f"{format_tokens(row['after'])} against {format_tokens(row['before'])} tokens"
    what = f"{row['endpoint']} ({row['metric']}), {row['line']}: {budgets}: {row['effect']:+.4g}"
    direction = "worse" if row["worse"] else "better"
    if pd.isna(row["low"]):
        return f"{what} ({direction}); nothing is repeated, so there is no interval."
    with_zero = "" if row["low"] * row["high"] > 0 else ", an interval that holds 0"
    interval = f"95% interval {row['low']:.4g} to {row['high']:.4g}{with_zero}"
    return f"{what} ({direction}; {100 * row['relative']:+.2g}%), {interval} ({row['covers']})."
