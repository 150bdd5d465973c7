"""Frames as tables of text for the page: few columns, few digits; the files beside it hold everything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from overtrain.analysis.verdict import format_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DASH", "Table", "table_of", "text"]

DASH = "-"
"""What a table shows where a value does not apply."""

_TOKENS = frozenset({"budget", "tokens", "before", "after", "first", "last", "inflection", "first_rise"})
_BLANK = frozenset({"missing", "p_holm"})
"""Columns where nothing is missing, or nothing adjusted, if they are empty."""


@dataclass(frozen=True)
class Table:
    """One table of the page.

    Attributes:
        title: above it.
        head: names of the columns.
        rows: cells as text.
        note: below it.
        folded: whether it is shown on demand.
        statuses: class of each row, for those that differ from done.
        prose: whether its cells are sentences, which wrap; such a table has no title.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""
    folded: bool = False
    statuses: tuple[str, ...] = ()
    prose: bool = False


def text(value: Any) -> str:
    """Write a value for a table; missing is said, never left blank.

    >>> text(0.123456), text(True), text(None), text(12)
    ('0.1235', 'yes', 'missing', '12')
    """
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "missing"
    if isinstance(value, float) and math.isinf(value):
        return "diverged"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table_of(
    title: str, frame: pd.DataFrame, columns: Mapping[str, str], note: str = "", *, folded: bool = False
) -> Table:
    """Return a frame as a table.

    Args:
        title: above it.
        frame: what to show.
        columns: of the frame, in order, with their heads; those that the frame lacks are left out.
        note: below it.
        folded: whether it is shown on demand.
    """
    shown = {column: head for column, head in columns.items() if column in frame.columns}
    rows = [[_value(column, row[column]) for column in shown] for row in frame.to_dict("records")]
    return Table(title, list(shown.values()), rows, note, folded)


def _value(column: str, value: Any) -> str:
    if column in _BLANK and (pd.isna(value) or value == ""):
        return DASH
    if column in _TOKENS and not pd.isna(value):
        return format_tokens(value)
    return value.replace("_", " ") if column == "quantity" else text(value)
