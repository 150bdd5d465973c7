"""``study.json`` of earlier formats, turned into today's: JSON data in, JSON data out."""

from __future__ import annotations

import dataclasses
from typing import Any

from overtrain.plan.axes import axes_of_cells, axes_of_columns, category_of, data_of_columns, selected_value
from overtrain.study.study import BASE

__all__ = ["migrate"]

_TUNED = "tuned"
_STUDY = (
    "name",
    "description",
    "tasks",
    "seeds",
    "budgets",
    "select",
    "reference",
    "judge",
    "primary",
    "plateau_margin",
)


def migrate(content: dict[str, Any]) -> dict[str, Any]:
    """Return a ``study.json`` of format 1 in format 2.

    Format 1 kept the study's own part under ``study`` and had no categories, axes or data sets of cells; these follow from
    the classes that are registered under the modifications' names. A name that nobody has registered has the category
    ``other``, and its varied fields are axes without a unit.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: the file is not of format 1 either.
    """
    study = dict(content["study"])
    cells = [_cell(entry) for entry in content["cells"]]
    names = dict.fromkeys([*study.get("variants", {}), *(c["variant"] for c in cells if c["variant"] != BASE)])
    variants = []
    for name in names:
        own = [cell for cell in cells if cell["variant"] == name]
        axes = axes_of_cells((_steps(cell["modification"]), cell["fields"]) for cell in own)
        varied = [column for column, (_, values) in axes.items() if len(values) > 1]
        for cell in own:
            cell["axes"] = {column: cell["fields"][column] for column in varied if column in cell["fields"]}
        described = [dataclasses.asdict(axis) | {"values": list(values)} for axis, values in axes.values()]
        variants.append({"name": name, "category": own[0]["category"] if own else "other", "axes": described})
    kept = {name: study[name] for name in _STUDY if study.get(name) is not None}
    if "reference" in kept:
        kept["reference"] = _reference(kept["reference"])
    return {**kept, "variants": variants, "cells": cells, "same": content["same"]}


def _reference(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a reference with the modification's fields, of which format 1 knew the learning rate, under ``fields``."""
    own = {name: entry.get(name) for name in ("checkpoint", "seed", "variant")}
    return own | {"fields": {name: value for name, value in entry.items() if name not in own and value is not None}}


def _cell(entry: dict[str, Any]) -> dict[str, Any]:
    steps, fields = _steps(entry["modification"]), entry["fields"]
    return entry | {
        "category": category_of(steps, elsewhere=entry["modification"] == _TUNED),
        "axes": {},
        "selected": selected_value(axes_of_columns(steps), fields),
        "data": list(data_of_columns(steps, fields)),
    }


def _steps(modification: str) -> list[str]:
    return [] if modification in {BASE, _TUNED} else modification.split("+")
