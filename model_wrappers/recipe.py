"""A recipe file: an ordered list of modifications, read as strictly as a study."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_wrappers.errors import ConfigError, OvertrainError, close_match
from model_wrappers.files import exists
from model_wrappers.modifications.registry import registry
from model_wrappers.yaml_nodes import NodeReader, beside, is_null, parse_yaml

if TYPE_CHECKING:
    from model_wrappers.modifications.base import Modification

__all__ = ["read_recipe"]

_EXAMPLE = "'- gaussian: {gamma: 0.05}'"
_KEY = "modifications"


def read_recipe(path: str | Path) -> tuple[Modification, ...]:
    """Read an ordered list of modifications from a YAML file, e.g. fine-tune, then add noise.

    The file holds a list, or a mapping with the key ``modifications``; each item is ``{name: {field: value}}``. A relative
    path of a data file is looked for beside the recipe file first.

    Raises:
        ConfigError: there is no such file, or it has errors, each named with its line: no list, an unknown modification
            or field (with the closest match), a key given twice, a value of the wrong type or out of its range.
    """
    file = Path(path).expanduser()
    if not exists(file) or file.is_dir():
        raise ConfigError(f"recipe={str(path)!r}: no such file; give a YAML file that lists modifications")
    root = parse_yaml(file, "a recipe needs three levels")
    reader = NodeReader()
    steps = [_step(reader, item, file) for item in _items(reader, root, file)]
    reader.finish(file)
    return tuple(step for step in steps if step is not None)


def _items(reader: NodeReader, root: yaml.Node | None, file: Path) -> list[yaml.Node]:
    node = root
    if isinstance(root, yaml.MappingNode):
        node = reader.mapping(root, "recipe", [_KEY], [_KEY]).get(_KEY)
        reader.finish(file)
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise ConfigError(f"recipe={str(file)!r}: must hold a list such as {_EXAMPLE}")
    return list(node.value)


def _step(reader: NodeReader, node: yaml.Node, file: Path) -> Modification | None:
    """Return one modification; None if it has errors, which the reader has collected."""
    if isinstance(node, yaml.ScalarNode) and not is_null(node):
        name, fields = str(node.value), None
    elif isinstance(node, yaml.MappingNode) and len(node.value) == 1:
        name, fields = str(node.value[0][0].value), node.value[0][1]
    else:
        reader.problem(node, f"every item must be one modification, such as {_EXAMPLE}")
        return None
    if name not in registry():
        known = list(registry())
        reader.problem(node, f"unknown modification {name!r}{close_match(name, known)} (allowed: {', '.join(known)})")
        return None
    cls, before = registry()[name], len(reader.problems)
    values = {} if fields is None or is_null(fields) else _values(reader, cls, fields, file)
    if len(reader.problems) > before:
        return None
    try:
        return cls.parse(values)
    except OvertrainError as error:
        reader.problem(node, str(error))
        return None


def _values(reader: NodeReader, cls: type[Modification], node: yaml.Node, file: Path) -> dict[str, Any]:
    types = typing.get_type_hints(cls)
    values = {}
    for name, value in reader.mapping(node, cls.name, tuple(cls.fields())).items():
        read = reader.value(value, name, types[name])
        values[name] = beside(read, file.parent) if name in cls.files() and isinstance(read, str) else read
    return values
