"""What the records and the registered modifications say of a frame's variants: category, axes, training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_wrappers.modifications.base import Axis
from overtrain.plan.axes import axes_of_columns, category_of, data_of_columns
from overtrain.results.frame import COLUMNS, MARKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from overtrain.results.record import StudyRecord

__all__ = ["Axis", "axes_of", "category", "fields", "trained_on"]

_ALONE = {"base", "tuned"}
"""Values of the column ``modification`` that name no registered modification."""


def fields(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are fields of modifications."""
    known = {*COLUMNS, *MARKS, "category"}
    return [str(c) for c in frame.columns if c not in known and not str(c).startswith(("seed", "checkpoint_"))]


def axes_of(part: pd.DataFrame, variant: str, study: StudyRecord) -> list[Axis]:
    """Return the axes of a variant, those that a study selects first: as recorded, else as its modifications declare.

    Args:
        part: rows of the variant.
        variant: its name.
        study: its record.
    """
    recorded = next((v for v in study.variants if v.name == variant), None)
    if recorded is not None:
        axes = [Axis(a.field, a.label, a.unit, a.scale, selected=a.selected) for a in recorded.axes]
    else:
        axes = list(axes_of_columns(_steps(part["modification"].iloc[0])).values())
    axes = [axis for axis in axes if axis.field in part.columns and part[axis.field].notna().any()]
    return sorted(axes, key=lambda axis: not axis.selected)


def category(part: pd.DataFrame) -> str:
    """Return the category of a variant's rows: as recorded, else as its modifications declare."""
    if "category" in part.columns:
        return str(part["category"].iloc[0])
    name = part["modification"].iloc[0]
    return category_of(_steps(name), elsewhere=name == "tuned")


def trained_on(row: Mapping[Any, Any], own: list[str]) -> tuple[str, ...]:
    """Return the data sets and files that the modifications of a cell read.

    Args:
        row: of the cells.
        own: the columns that are fields of modifications.
    """
    known = {name: row[name] for name in own if row[name] is not None and row[name] == row[name]}
    return data_of_columns(_steps(row["modification"]), known)


def _steps(modification: object) -> list[str]:
    return [] if modification in _ALONE else str(modification).split("+")
