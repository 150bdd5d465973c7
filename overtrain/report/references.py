"""The references of AlpacaEval's win rates in words: the section, captions of figures and the page name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from overtrain.analysis.verdict import format_tokens
from overtrain.report.curves import number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["references"]


def references(table: pd.DataFrame, judged: Mapping[str, Any]) -> dict[str, str]:
    """Return family and variant -> their reference in words."""
    chosen = [group["reference"] for group in judged.get("groups", [])]
    default = {reference["cell_id"]: bool(reference.get("default")) for reference in chosen}
    found: dict[str, str] = {}
    for row in table[table["reference"]].to_dict("records"):
        words = [f"{format_tokens(row['tokens'])} tokens"]
        if row.get("learning_rate") is not None and not pd.isna(row.get("learning_rate")):
            words.append(f"learning rate {number(float(row['learning_rate']))}")
        words += [] if pd.isna(row["seed"]) else [f"seed {row['seed']}"]
        why = (
            " (the default: middle of the rate grid, last checkpoint, first seed)"
            if default.get(row["cell_id"])
            else ""
        )
        name = f"{row['family']}, {row['variant']}"
        found[name] = f"{found[name]}; {', '.join(words)}{why}" if name in found else f"{', '.join(words)}{why}"
    return found
