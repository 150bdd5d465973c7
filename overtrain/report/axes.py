"""What the records say of a variant's modification: its category, and the fields that a study varies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overtrain.results.frame import COLUMNS, MARKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

__all__ = ["Axis", "axes_of", "category_of", "fields"]


@dataclass(frozen=True)
class Axis:
    """TEMPORARY: of model_wrappers.modifications.base."""

    field: str
    label: str
    unit: str = ""
    scale: str = "linear"
    selected: bool = False


_KNOWN = (Axis("learning_rate", "learning rate", selected=True), Axis("gamma", "gamma"))


def fields(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are fields of modifications."""
    known = {*COLUMNS, *MARKS, "category"}
    return [str(c) for c in frame.columns if c not in known and not str(c).startswith(("seed", "checkpoint_"))]


def axes_of(part: pd.DataFrame, variant: str, study: Mapping[str, Any]) -> list[Axis]:
    """Return the axes of a variant, the one that its curves differ in first."""
    return [axis for axis in _KNOWN if axis.field in part.columns and part[axis.field].notna().any()]


def category_of(part: pd.DataFrame) -> str:
    """Return the category of a variant's cells."""
    if "learning_rate" in part.columns and part["learning_rate"].notna().any():
        return "finetune"
    return "noise" if "gamma" in part.columns and part["gamma"].notna().any() else "other"
