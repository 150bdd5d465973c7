"""Single rows of the frames in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from overtrain.analysis.verdict import format_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["comparison", "law", "minimum", "slope"]


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


def slope(row: Mapping[Any, Any]) -> str:
    """Say how the optimal learning rate moves, with the reading of Figure 7."""
    name, count = f"{row['family']}, {row['variant']}", int(row["n_checkpoints"])
    left = f"; {int(row['n_at_edge'])} left out, no optimum inside the grid" if row["n_at_edge"] else ""
    if pd.isna(row["slope"]):
        return f"{name}: {count} checkpoints have an optimum inside the grid{left}; a slope needs three."
    interval = f"95% interval {row['low']:.3g} to {row['high']:.3g}"
    return (
        f"{name}: the optimal rate changes by {row['slope']:+.3g} doublings per doubling of tokens ({interval}; {count} "
        f"checkpoints{left}). Reading of Figure 7: {row['regime']}."
    )


def law(row: Mapping[Any, Any]) -> str:
    """Say how the distance depends on learning rate and tokens; empty where neither slope is known."""
    parts = []
    if pd.notna(row["rate_slope"]):
        interval = f"95% interval {row['rate_low']:.3g} to {row['rate_high']:.3g}"
        holds = "holds" if row["proportional"] else "does not hold"
        parts.append(
            f"grows as the rate to the power {row['rate_slope']:.3g} ({interval}, which {holds} 1, proportionality)"
        )
    if pd.notna(row["tokens_slope"]):
        interval = f"95% interval {row['tokens_low']:.3g} to {row['tokens_high']:.3g}"
        holds = "holds" if row["independent"] else "does not hold"
        change = f"changes by {row['tokens_slope']:+.3g} in its logarithm per doubling of tokens"
        parts.append(f"{change} ({interval}, which {holds} 0, independence)")
    return f"{row['family']}, {row['variant']}: the distance {' and '.join(parts)}." if parts else ""
