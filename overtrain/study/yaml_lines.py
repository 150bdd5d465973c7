"""Files that include others become one tree of YAML nodes; every node knows its file and line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from model_wrappers.errors import ConfigError
from model_wrappers.yaml_nodes import parse_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from overtrain.common.schema import Key
    from overtrain.study.reader import Reader

__all__ = ["compose"]


def compose(file: Path, reader: Reader, include: Key, parents: tuple[Path, ...] = ()) -> yaml.MappingNode:
    """Return the top-level mapping of ``file``, laid on the files that it includes.

    The file itself wins over an included file, and a later included file over an earlier one. Two mappings under the same
    key are merged; any other value replaces the earlier one.

    Args:
        file: the YAML file.
        reader: notes an ``include`` that is no list of names.
        include: the key that names other files.
        parents: the files that include this one.

    Raises:
        ConfigError: a file cannot be read, is not YAML, is nested too deeply or is no mapping, or files include each other.
    """
    if file in parents:
        raise ConfigError(
            f"{file}: includes itself by way of {' -> '.join(p.name for p in parents)}; remove one include"
        )
    node = _parse(file)
    merged: yaml.MappingNode | None = None
    for key, value in node.value:
        if key.value != include.name:
            continue
        names = reader.key(value, include.name, include)
        for name in names if isinstance(names, tuple) else ():
            part = compose((file.parent / name).resolve(), reader, include, (*parents, file))
            merged = part if merged is None else _merge(merged, part)
    return node if merged is None else _merge(merged, node)


def _parse(file: Path) -> yaml.MappingNode:
    node = parse_yaml(file, "a study needs about six levels")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{file}: must be a mapping that starts like 'name: my_study'")
    return node


def _merge(under: yaml.MappingNode, over: yaml.MappingNode) -> yaml.MappingNode:
    """Return ``under`` with ``over`` laid on it; positions stay those of the files that the values come from."""
    values = {str(key.value): (key, value) for key, value in under.value}
    for key, value in over.value:
        name = str(key.value)
        earlier = values.get(name)
        if earlier and isinstance(earlier[1], yaml.MappingNode) and isinstance(value, yaml.MappingNode):
            values[name] = (key, _merge(earlier[1], value))
        else:
            values[name] = (key, value)
    repeated = _repeated(over)
    own = [pair for name, pair in values.items() if name not in repeated]
    again = [(key, value) for key, value in over.value if str(key.value) in repeated]
    return yaml.MappingNode(over.tag, [*own, *again], over.start_mark, over.end_mark)


def _repeated(node: yaml.MappingNode) -> set[str]:
    """Return the keys that a file gives twice, so that merging does not hide the error."""
    names = [str(key.value) for key, _ in node.value]
    return {name for name in names if names.count(name) > 1}
