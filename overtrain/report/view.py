"""Which curves a study's frame holds. Names and grouping only; no score is looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pandas as pd

from overtrain.results.frame import COLUMNS, MARKS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TRAINING", "Kind", "Line", "fields", "grids", "lines", "number"]

Kind = Literal["base", "noise", "finetune", "other"]

TRAINING = "training"
"""Task name of the rows that hold training metrics."""


@dataclass(frozen=True)
class Line:
    """One curve against tokens: a modification at fixed settings, or the unmodified checkpoints.

    Attributes:
        family: of the checkpoints.
        variant: name in the study file; ``base`` for the unmodified checkpoints.
        kind: what the modification is, by its fields.
        axis: the field that varies along the variant's grid (``learning_rate``, ``gamma``), None without one.
        strength: its value; None for a curve whose learning rate was tuned at every checkpoint.
        settings: further fields of the variant that vary, with their values.
    """

    family: str
    variant: str
    kind: Kind
    axis: str | None = None
    strength: float | None = None
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def tuned(self) -> bool:
        """Whether the learning rate is the best one of each checkpoint."""
        return self.axis is not None and self.strength is None

    @property
    def phrase(self) -> str:
        """The modification in a sentence, after a quantity."""
        if self.kind == "base":
            return "of the base model"
        setting = self.label.removeprefix(self.variant).removeprefix(", ")
        at = f" at {'the ' if self.tuned and not self.settings else ''}{setting}" if setting else ""
        return f"after {self.variant}{at}"

    @property
    def label(self) -> str:
        """Name for a legend."""
        if self.kind == "base":
            return "base model"
        parts = [self.variant, *(f"{name.replace('_', ' ')} {value}" for name, value in self.settings)]
        if self.tuned:
            parts.append("tuned learning rate")
        elif self.axis is not None:
            parts.append(f"{self.axis.replace('_', ' ')} {number(self.strength)}")
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


def fields(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are fields of modifications."""
    return [
        str(c) for c in frame.columns if c not in (*COLUMNS, *MARKS) and not str(c).startswith(("seed", "checkpoint_"))
    ]


def lines(frame: pd.DataFrame) -> list[Line]:
    """Return every curve at fixed settings, the base of each family first, then by variant and strength."""
    own = fields(frame)
    found: list[Line] = []
    for (family, variant), part in frame.groupby(["family", "variant"], sort=True):
        if variant == "base":
            found.append(Line(str(family), "base", "base"))
            continue
        varying = [c for c in own if len(set(_text(part[c].dropna()))) > 1]
        kind, axis = _kind(part, varying)
        rest = [c for c in varying if c != axis]
        table = part[[*([axis] if axis else []), *rest]].copy()
        for column in rest:
            table[column] = _text(table[column])
        rows = table.drop_duplicates() if len(table.columns) else pd.DataFrame(index=[0])
        found += [
            Line(
                str(family),
                str(variant),
                kind,
                axis,
                float(row[axis]) if axis else None,
                tuple((c, str(row[c])) for c in rest),
            )
            for row in rows.to_dict("records")
        ]
    order = {"base": 0, "noise": 1, "finetune": 2, "other": 3}
    return sorted(found, key=lambda x: (x.family, order[x.kind], x.variant, x.settings, x.strength or 0.0))


def _kind(part: pd.DataFrame, varying: Sequence[str]) -> tuple[Kind, str | None]:
    has = {c: c in part.columns and bool(part[c].notna().any()) for c in ("learning_rate", "gamma")}
    for kind, column in (("finetune", "learning_rate"), ("noise", "gamma")):
        if column in varying and part[column].notna().all():
            return kind, column  # type: ignore[return-value]
    kind = "finetune" if has["learning_rate"] else "noise" if has["gamma"] else "other"
    for column in varying:
        if pd.api.types.is_numeric_dtype(part[column]) and part[column].notna().all():
            return kind, column  # type: ignore[return-value]
    for column in ("learning_rate", "gamma"):
        if has[column] and part[column].notna().all():
            return kind, column  # type: ignore[return-value]
    return kind, None  # type: ignore[return-value]


def _text(column: pd.Series) -> pd.Series:
    return column.map(str) if column.dtype == object else column.astype(str)


def grids(found: Sequence[Line]) -> list[tuple[Line, list[Line]]]:
    """Return, for every fine-tuned variant with several learning rates, its tuned curve and the curves it is chosen from."""
    groups: dict[Line, list[Line]] = {}
    for line in found:
        if line.kind == "finetune" and line.axis == "learning_rate":
            groups.setdefault(replace(line, strength=None), []).append(line)
    return [(tuned, members) for tuned, members in groups.items() if len(members) > 1]
