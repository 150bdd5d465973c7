"""What registered modifications say of their fields: category, axes with label, unit and scale, fields that name data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from model_wrappers.modifications.base import Axis
from model_wrappers.modifications.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from model_wrappers.modifications.base import Modification

__all__ = ["Value", "axes_of_cells", "axes_of_columns", "category_of", "data_of_columns", "selected_value"]

V = TypeVar("V")
Value = str | int | float | bool | None
"""Of a modification's field; a list is its items joined by ``+``."""

_BASE, _OTHER, _ELSEWHERE = "base", "other", "finetune"


def category_of(steps: Sequence[str], *, elsewhere: bool = False) -> str:
    """Return the category of a list of modifications, given by name.

    Steps of several categories count as the last one that trains, because its weights are what is kept, else as the last
    step. A name that is not registered here has the category ``other``.

    Args:
        steps: names, in order; none for a checkpoint as it is.
        elsewhere: whether somebody else tuned the checkpoint.
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

    Without registered steps (a checkpoint that was tuned elsewhere, a package that is not installed), every axis of every
    registered modification is looked up by its field's name.
    """
    classes = [registry().get(name) for name in steps]
    if not classes or None in classes:
        return {axis.field: axis for cls in registry().values() for axis in cls.axes}
    return {column: axis for cls, field, column in _columns(classes) for axis in cls.axes if axis.field == field}


def data_of_columns(steps: Sequence[str], fields: Mapping[str, object]) -> tuple[str, ...]:
    """Return the data sets and files that a cell's modifications read.

    Args:
        steps: names of the modifications.
        fields: the cell's columns.
    """
    classes = [registry().get(name) for name in steps]
    if not classes or None in classes:
        named = {field for cls in registry().values() for field in cls.files()}
        columns = [column for column in fields if column.rstrip("0123456789").rstrip("_") in named]
    else:
        columns = [column for cls, field, column in _columns(classes) if field in cls.files()]
    return tuple(str(fields[column]) for column in columns if fields.get(column) is not None)


def selected_value(axes: Mapping[str, Axis], fields: Mapping[str, object]) -> float | None:
    """Return the value of the first axis that a study selects per checkpoint, such as the learning rate; None without one."""
    for column, axis in axes.items():
        value = fields.get(column)
        if axis.selected and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _columns(classes: Sequence[type[Modification] | None]) -> Iterator[tuple[type[Modification], str, str]]:
    """Yield class, field and column of every field but the seed, as `Cell.columns` names columns."""
    taken: set[str] = set()
    for cls in classes:
        if cls is None:
            continue
        for field in cls.fields():
            if field == "seed":
                continue
            column, number = field, 2
            while column in taken:
                column, number = f"{field}_{number}", number + 1
            taken.add(column)
            yield cls, field, column


def axes_of_cells(cells: Iterable[tuple[Sequence[str], Mapping[str, V]]]) -> dict[str, tuple[Axis, tuple[V, ...]]]:
    """Return column -> axis and its values in order, for the cells of one variant.

    An axis is what the steps' classes declare, and every other column that has several values.

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
            number = column.removeprefix(axis.field).removeprefix(
                "_"
            )  # of the step, for the second step and later ones
            label = f"{axis.label} {number}" if number else axis.label
            found[column] = replace(axis, field=column, label=label), tuple(distinct)
    return found
