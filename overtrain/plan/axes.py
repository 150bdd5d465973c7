"""What modifications declare about their fields, for each column of a cell: category, axis, data sets, labels of a grid."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from model_wrappers.modifications.base import Axis
from model_wrappers.modifications.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from model_wrappers.modifications.base import Modification

__all__ = [
    "Column",
    "axes_of_cells",
    "axes_of_columns",
    "category_of",
    "columns_of",
    "data_of_columns",
    "grid_labels",
    "selected_value",
]

V = TypeVar("V")
_BASE, _OTHER, _ELSEWHERE = "base", "other", "finetune"


class Column(NamedTuple):
    """A field of one step, and the column that holds its values.

    If an earlier step has a field of the same name, the column's name ends in a number (``gamma_2``).
    """

    step: int
    field: str
    name: str


def category_of(steps: Sequence[str], *, elsewhere: bool = False) -> str:
    """Return the category of a list of modifications, given by name.

    The category of a list is that of its last step that trains, because that step's weights are kept. If no step trains, it
    is the category of the last step. A name that is not registered here has the category ``other``.

    Args:
        steps: names, in order; empty for a checkpoint without modifications.
        elsewhere: whether the checkpoint was tuned outside of this study.
    """
    if elsewhere:
        return _ELSEWHERE
    if not steps:
        return _BASE
    classes = [registry().get(name) for name in steps]
    trained = [c for c in classes if c is not None and c.materialise]
    chosen = trained[-1] if trained else classes[-1]
    return _OTHER if chosen is None else chosen.category


def axes_of_columns(steps: Sequence[str]) -> dict[str, Axis]:
    """Return column -> axis, for every declared axis of the steps; columns are named as in `Cell.columns`.

    The steps may be unknown: the checkpoint was tuned elsewhere, or a package is not installed. Then the result contains
    every axis of every registered modification, by the name of its field.
    """
    classes = _registered(steps)
    if classes is None:
        return {axis.field: axis for cls in registry().values() for axis in cls.axes}
    return {c.name: axis for c in columns_of(classes) for axis in classes[c.step].axes if axis.field == c.field}


def data_of_columns(steps: Sequence[str], fields: Mapping[str, object]) -> tuple[str, ...]:
    """Return the data sets and files that a cell's modifications read.

    Args:
        steps: names of the modifications.
        fields: the cell's columns.
    """
    classes = _registered(steps)
    if classes is None:
        named = {field for cls in registry().values() for field in cls.files()}
        columns = [column for column in fields if column.rstrip("0123456789").rstrip("_") in named]
    else:
        columns = [c.name for c in columns_of(classes) if c.field in classes[c.step].files()]
    return tuple(str(fields[column]) for column in columns if fields.get(column) is not None)


def selected_value(axes: Mapping[str, Axis], fields: Mapping[str, object]) -> float | None:
    """Return the value of the first axis that a study selects per checkpoint, such as the learning rate; None if none is."""
    for column, axis in axes.items():
        value = fields.get(column)
        if axis.selected and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def columns_of(steps: Sequence[type[Modification]]) -> list[Column]:
    """Return the columns of a list of modifications. The seed has no column: all modifications of a cell share one seed."""
    found: list[Column] = []
    for place, cls in enumerate(steps):
        taken = {column.name for column in found}
        for field in (name for name in cls.fields() if name != "seed"):
            names = (field if number == 1 else f"{field}_{number}" for number in itertools.count(1))
            found.append(Column(place, field, next(name for name in names if name not in taken)))
    return found


def grid_labels(grid: Sequence[Sequence[Modification]]) -> list[str]:
    """Return a label for every point of a variant's grid: the fields that vary, and their values. All labels differ.

    Fields that the classes declare as axes come first, in the order of declaration: ``learning_rate=1e-05 epochs=2.0``.
    """
    classes = [type(step) for step in grid[0]]
    order = {(place, axis.field): rank for place, cls in enumerate(classes) for rank, axis in enumerate(cls.axes)}
    columns = sorted(columns_of(classes), key=lambda c: (c.step, order.get((c.step, c.field), len(order))))
    words = []
    for column in columns:
        values = [getattr(steps[column.step], column.field) for steps in grid]
        if len(set(values)) > 1:
            words.append([f"{column.name}={value}" for value in _written(values)])
    return [" ".join(point) for point in zip(*words, strict=True)] if words else ["" for _ in grid]


def _written(values: Sequence[object]) -> list[str]:
    """Return values as text. Paths are shortened to their last part, if all last parts differ."""
    whole = ["+".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values]
    short = [text.rstrip("/").rpartition("/")[2] for text in whole]
    return short if len(set(short)) == len(set(whole)) else whole


def _registered(steps: Sequence[str]) -> list[type[Modification]] | None:
    """Return the classes of the steps; None if there are no steps, or if one of them is not registered here."""
    classes = [registry()[name] for name in steps if name in registry()]
    return classes if classes and len(classes) == len(steps) else None


def axes_of_cells(cells: Iterable[tuple[Sequence[str], Mapping[str, V]]]) -> dict[str, tuple[Axis, tuple[V, ...]]]:
    """Return column -> axis and its values in order, for the cells of one variant.

    Axes are the columns that the steps' classes declare, and every other column that has several values.

    Args:
        cells: names of the steps, and the columns of every cell.
    """
    known: dict[str, Axis] = {}
    values: dict[str, dict[V, None]] = {}
    for steps, fields in cells:
        known = axes_of_columns(steps) | known
        for column, value in fields.items():
            values.setdefault(column, {})[value] = None
    found = {}
    for column, distinct in values.items():
        if len(distinct) > 1 or (column in known and None not in distinct):
            axis = known.get(column, Axis(column, column.replace("_", " ")))
            number = column.removeprefix(axis.field).removeprefix("_")  # empty for the first step with this field
            label = f"{axis.label} {number}" if number else axis.label
            found[column] = replace(axis, field=column, label=label), tuple(distinct)
    return found
