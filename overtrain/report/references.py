"""The references of AlpacaEval's win rates in words: the section, captions of figures and the page name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from overtrain.analysis.verdict import format_tokens
from overtrain.report.curves import number

if TYPE_CHECKING:
    from overtrain.report.data import ReportData

__all__ = ["references"]


def references(data: ReportData) -> dict[str, str]:
    """Return family and variant -> the reference of their win rates in words."""
    table = data.frame("win_rates")
    if table.empty or data.judged is None:
        return {}
    default = {group.reference.cell_id: group.reference.default for group in data.judged.groups}
    found: dict[str, str] = {}
    for row in table[table["reference"]].to_dict("records"):
        words = [f"{format_tokens(row['tokens'])} tokens"]
        axes = [axis for axis in data.selected_axes if axis.field in row and not pd.isna(row[axis.field])]
        words += [f"{axis.label} {number(float(row[axis.field]))}" for axis in axes]
        words += [] if pd.isna(row["seed"]) else [f"seed {row['seed']}"]
        why = (
            " (the default: middle of the rate grid, last checkpoint, first seed)"
            if default.get(row["cell_id"])
            else ""
        )
        name = f"{row['family']}, {row['variant']}"
        found[name] = f"{found[name]}; {', '.join(words)}{why}" if name in found else f"{', '.join(words)}{why}"
    return found
