"""The ``modifications`` section of a study's file: named variants, each an ordered list of steps over a grid."""

from __future__ import annotations

import itertools
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_wrappers.errors import OvertrainError, close_match
from model_wrappers.modifications.registry import registry
from model_wrappers.yaml_nodes import beside, is_null
from overtrain.common.schema import keys
from overtrain.study.forms import VariantForm
from overtrain.study.study import BASE, Variant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model_wrappers.modifications.base import Modification
    from overtrain.study.reader import Reader

__all__ = ["field_types", "read_variants"]

_LARGEST_GRID = 10_000
_LONGEST_NAME = 100
_RESERVED = {BASE: "the unmodified checkpoint, which is always there", "training": "the task of training metrics"}


def field_types(kinds: Iterable[type[Modification]]) -> dict[str, Any]:
    """Return the type of every field that these modifications have, the seed excluded: seeds belong to variants."""
    return {
        name: types[name]
        for kind in kinds
        for types in [typing.get_type_hints(kind)]
        for name in kind.fields()
        if name != "seed"
    }


def read_variants(reader: Reader, node: yaml.Node, seeds: tuple[int, ...], file: Path) -> tuple[Variant, ...]:
    """Return the variants in the file's order; wrong ones are noted and left out.

    Args:
        reader: collects the problems.
        node: the section.
        seeds: the study's, for variants without seeds of their own.
        file: the study's file, beside which data files may lie.
    """
    variants = []
    for name, value in reader.mapping(node, "modifications").items():
        if name in _RESERVED:
            reader.problem(value, f"modifications: {name!r} is {_RESERVED[name]}; choose another name")
            continue
        if len(name) > _LONGEST_NAME:
            reader.problem(value, f"modifications: {name[:20]}... has {len(name)} letters; at most {_LONGEST_NAME}")
            continue
        variant = _variant(reader, name, value, seeds, file)
        variants += [variant] if variant else []
    return tuple(variants)


def _variant(reader: Reader, name: str, node: yaml.Node, seeds: tuple[int, ...], file: Path) -> Variant | None:
    given = {str(key.value) for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
    if any(key.marks and key.name in given for key in keys(VariantForm).values()):
        form = reader.section(node, name, VariantForm)
        seeds, node = form.seeds or seeds, form.steps
    if isinstance(node, yaml.MappingNode):
        node = yaml.SequenceNode("tag:yaml.org,2002:seq", [node], node.start_mark, node.end_mark)
    steps = [_step(reader, name, item, file) for item in reader.items(node, name)]
    if not steps or any(step is None for step in steps):
        return None
    whole = [step for step in steps if step is not None]
    size = 1
    for _, points, _ in whole:
        size *= len(points)
    if size > _LARGEST_GRID:
        reader.problem(node, f"{name}: {size:,} points of the grid; at most {_LARGEST_GRID:,}, shorten a list")
        return None
    axes: dict[str, tuple[Any, ...]] = {}
    for kind, _, own in whole:
        for field, values in own.items():
            axes[f"{kind}.{field}" if field in axes else field] = values
    grid = tuple(itertools.product(*(points for _, points, _ in whole)))
    return Variant(name=name, grid=grid, seeds=seeds, axes=axes)


_Step = tuple[str, list["Modification"], dict[str, tuple[Any, ...]]]


def _step(reader: Reader, variant: str, node: yaml.Node, file: Path) -> _Step | None:
    """Return a step's name, the modification at every point of its grid, and the axes of that grid."""
    if isinstance(node, yaml.ScalarNode):
        kind, fields_node = str(node.value), None
    elif isinstance(node, yaml.MappingNode) and len(node.value) == 1:
        kind, fields_node = str(node.value[0][0].value), node.value[0][1]
    else:
        reader.problem(node, f"{variant}: every step must be one modification, such as 'gaussian: {{gamma: 0.1}}'")
        return None
    if kind not in registry():
        known = list(registry())
        reader.problem(
            node, f"{variant}: no modification {kind!r}{close_match(kind, known)} (there: {', '.join(known)})"
        )
        return None
    before = len(reader.problems)
    axes = _axes(reader, f"{variant}.{kind}", registry()[kind], fields_node, file)
    points = []
    for combination in itertools.product(*axes.values()) if len(reader.problems) == before else ():
        try:
            points.append(registry()[kind].parse(dict(zip(axes, combination, strict=True))))
        except OvertrainError as error:
            reader.problem(node, f"{variant}.{kind}: {error}")
    if len(reader.problems) > before:
        return None
    return kind, points, {field: values for field, values in axes.items() if len(values) > 1}


def _axes(
    reader: Reader, what: str, cls: type[Modification], node: yaml.Node | None, file: Path
) -> dict[str, tuple[Any, ...]]:
    """Return each given field's values, one where it is no axis."""
    if node is None or is_null(node):
        return {}
    types = typing.get_type_hints(cls)
    axes: dict[str, tuple[Any, ...]] = {}
    for field, value in reader.mapping(node, what, tuple(cls.fields())).items():
        if field == "seed" and isinstance(value, yaml.SequenceNode):
            reader.problem(value, f"{what}: several seeds go under seeds:, of the study or of the variant")
        else:
            axes[field] = _axis(reader, field, value, types[field], file if field in cls.files() else None)
    return axes


def _axis(reader: Reader, field: str, node: yaml.Node, annotation: Any, file: Path | None) -> tuple[Any, ...]:
    """Return the values of a field: one, or one per item of a list, unless the field itself is a list.

    Args:
        reader: collects the problems.
        field: its name.
        node: what the file gives.
        annotation: the field's type.
        file: the study's file if the field names files, which may lie beside it.
    """
    is_list = typing.get_origin(annotation) is tuple
    if is_list:
        nested = isinstance(node, yaml.SequenceNode) and any(isinstance(i, yaml.SequenceNode) for i in node.value)
        nodes = node.value if nested else [node]
    else:
        nodes = reader.items(node, field) if isinstance(node, yaml.SequenceNode) else [node]
    values = []
    for item in nodes:
        value = reader.value(item, field, annotation)
        if file is not None and isinstance(value, str):
            value = beside(value, Path(item.start_mark.name).parent, file.parent)
        if value in values:
            reader.problem(item, f"{field}: {value!r} is given twice; keep one")
        values.append(value)
    return tuple(values)
