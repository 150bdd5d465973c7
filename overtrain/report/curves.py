"""Which curves a study's frame holds. Names and grouping only; no score is looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from overtrain.report.axes import Axis, axes_of, category, fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.results.record import StudyRecord

__all__ = ["BASE", "Curve", "curves", "number", "read_without_tuning", "tuned_curves"]

BASE = "base"
"""Variant and category of the unmodified checkpoints."""


@dataclass(frozen=True)
class Curve:
    """One curve against tokens: a modification at fixed settings, or the unmodified checkpoints.

    Attributes:
        family: of the checkpoints.
        variant: name in the study file; ``base`` for the unmodified checkpoints.
        category: of the modification, e.g. ``noise``; ``base`` for the unmodified checkpoints.
        axis: the field that varies along the variant's grid, e.g. the learning rate; None without one.
        strength: its value; None for a curve whose value was selected at every checkpoint.
        settings: further fields of the variant that vary, with their values.
        selectable: whether the modification has a field whose value a study selects at every checkpoint. Such a
            modification trains, so its cells have an in-distribution metric.
    """

    family: str
    variant: str
    category: str
    axis: Axis | None = None
    strength: float | None = None
    settings: tuple[tuple[str, str], ...] = ()
    selectable: bool = False

    @property
    def base(self) -> bool:
        """Whether this is the curve of the unmodified checkpoints."""
        return self.category == BASE

    @property
    def tuned(self) -> bool:
        """Whether every checkpoint has its own best value of the axis, e.g. its best learning rate."""
        return self.axis is not None and self.strength is None

    @property
    def phrase(self) -> str:
        """The modification in a sentence, after a quantity."""
        if self.base:
            return "of the base model"
        setting = self.label.removeprefix(self.variant).removeprefix(", ")
        at = f" at {'the ' if self.tuned and not self.settings else ''}{setting}" if setting else ""
        return f"after {self.variant}{at}"

    @property
    def label(self) -> str:
        """Name for a legend."""
        if self.base:
            return "base model"
        parts = [self.variant, *(f"{name.replace('_', ' ')} {value}" for name, value in self.settings)]
        if self.axis is not None:
            name = self.axis.field.replace("_", " ")
            parts.append(f"tuned {name}" if self.tuned else f"{name} {number(self.strength)}")
        return ", ".join(parts)


def number(value: float | None) -> str:
    """Write a setting briefly.

    >>> number(1e-05), number(0.3), number(4e-4), number(None)
    ('1e-5', '0.3', '4e-4', '')
    """
    if value is None:
        return ""
    text = f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3e}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def curves(frame: pd.DataFrame, study: StudyRecord) -> list[Curve]:
    """Return every curve at fixed settings: per family the base, then the variants by category, name and strength.

    Args:
        frame: of the study.
        study: its record; the variants name their axes.
    """
    found: list[Curve] = []
    for (family, variant), part in frame.groupby(["family", "variant"], sort=True):
        if variant == BASE:
            found.append(Curve(str(family), BASE, BASE))
            continue
        axes = axes_of(part, str(variant), study)
        varying = [c for c in fields(frame) if len(set(_text(part[c].dropna()))) > 1]
        axis = _axis(part, varying, axes)
        rest = [c for c in varying if axis is None or c != axis.field]
        table = part[[*([axis.field] if axis else []), *rest]].copy()
        for column in rest:
            table[column] = _text(table[column])
        rows = table.drop_duplicates() if len(table.columns) else pd.DataFrame(index=[0])
        common = Curve(str(family), str(variant), category(part), axis, selectable=any(one.selected for one in axes))
        found += [
            replace(
                common,
                strength=float(row[axis.field]) if axis else None,
                settings=tuple((c, str(row[c])) for c in rest),
            )
            for row in rows.to_dict("records")
        ]
    order = {BASE: 0, "noise": 1, "finetune": 2}
    return sorted(found, key=lambda x: (x.family, order.get(x.category, 3), x.variant, x.settings, x.strength or 0.0))


def _axis(part: pd.DataFrame, varying: Sequence[str], axes: Sequence[Axis]) -> Axis | None:
    """Return the axis of a variant's curves: a declared one that varies, any number that varies, a declared one."""
    whole = [c for c in part.columns if part[c].notna().all() and pd.api.types.is_numeric_dtype(part[c])]
    declared = [axis for axis in axes if axis.field in whole]
    for axis in declared:
        if axis.field in varying:
            return axis
    for column in varying:
        if column in whole:
            return Axis(column, column.replace("_", " "))
    return declared[0] if declared else None


def _text(column: pd.Series) -> pd.Series:
    return column.map(str) if column.dtype == object else column.astype(str)


def tuned_curves(found: Sequence[Curve]) -> list[Curve]:
    """Return, for every variant with several values of an axis that is selected per checkpoint, its tuned curve."""
    members: dict[Curve, int] = {}
    for curve in found:
        if curve.axis is not None and curve.axis.selected:
            tuned = replace(curve, strength=None)
            members[tuned] = members.get(tuned, 0) + 1
    return [tuned for tuned, count in members.items() if count > 1]


def read_without_tuning(found: Sequence[Curve]) -> list[Curve]:
    """Return the modified curves of variants with one setting: nothing is tuned, so the curve is read as it is.

    Variants of noise are left out: they have one curve per strength.
    """
    variants: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Curve]] = {}
    for curve in found:
        if curve.category not in {BASE, "noise"}:
            variants.setdefault((curve.family, curve.variant, curve.settings), []).append(curve)
    return [members[0] for members in variants.values() if len(members) == 1]
