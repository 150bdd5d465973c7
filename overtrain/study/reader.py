"""YAML nodes become sections as their classes declare them; every mistake is collected with its line."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from model_wrappers.errors import OvertrainError, close_match
from model_wrappers.yaml_nodes import NodeReader, is_null, shown
from overtrain.common.schema import keys, sections

if TYPE_CHECKING:
    from overtrain.common.schema import Key

__all__ = ["Reader"]


class Reader(NodeReader):
    """Reads sections by the declarations of `overtrain.common.schema.key`.

    Attributes:
        MISSING: the value of a key that could not be read.
    """

    MISSING: ClassVar[Any] = object()

    def section(self, node: yaml.Node, what: str, cls: type) -> Any:
        """Return a section of class ``cls``, or None if it is no mapping, lacks a required key or contradicts itself.

        A key with a wrong value is noted and takes its default.

        Args:
            node: a mapping, or a bare value where ``cls`` has a key for that.
            what: how a message calls the section.
            cls: declares its keys with `overtrain.common.schema.key`.
        """
        declared = keys(cls)
        before = len(self.problems)
        given = self._given(node, what, declared)
        if given is None:
            return None
        values: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for name, value in given.items():
            if name not in declared:
                rest[name] = self.plain(value)
                continue
            read = self.key(value, f"{what}.{name}", declared[name])
            if read is not self.MISSING:
                values[declared[name].field] = read
        values |= {k.field: rest for k in declared.values() if k.rest}
        if any(k.required and k.field not in values for k in declared.values()):
            return None
        if any(f.name == "node" for f in dataclasses.fields(cls)):
            values["node"] = node
        try:
            return cls(**values)
        except (OvertrainError, TypeError) as error:
            if len(self.problems) == before:
                self.problem(node, f"{what}: {error}")
            return None

    def key(self, node: yaml.Node, what: str, declared: Key) -> Any:
        """Return the value of a declared key; of a wrong value, which is noted, `MISSING`."""
        text = str(node.value) if isinstance(node, yaml.ScalarNode) else None
        if declared.shortcuts is not None and text is not None and text in declared.shortcuts:
            return declared.shortcuts[text]
        if declared.kind is yaml.Node:
            return node
        if declared.kind == dict[str, Any]:
            return self._dictionary(node, what, declared)
        if classes := list(sections(declared.kind)):
            return self._sections(node, what, declared, classes)
        if _item(declared.kind) is not None:
            return self._list(node, what, declared)
        return self._scalar(node, what, declared, declared.kind)

    def _given(self, node: yaml.Node, what: str, declared: dict[str, Key]) -> dict[str, yaml.Node] | None:
        """Return the keys of a section and their nodes; of a section that is no mapping None."""
        bare = next((name for name, k in declared.items() if k.bare), None)
        if bare is not None and isinstance(node, yaml.ScalarNode):
            return {bare: node}
        allowed = None if any(k.rest for k in declared.values()) else list(declared)
        found = self.mapping(node, what, allowed, [name for name, k in declared.items() if k.required])
        return found if isinstance(node, yaml.MappingNode) else None

    def _sections(self, node: yaml.Node, what: str, declared: Key, classes: list[type]) -> Any:
        if declared.shortcuts and isinstance(node, yaml.ScalarNode) and not is_null(node):
            words = list(declared.shortcuts)
            near = close_match(str(node.value), words)
            mapping = f"or a mapping such as {declared.example}"
            self.problem(node, f"{what}={node.value!r}: must be {', '.join(words)}, {mapping}{near}")
            return self.MISSING
        if _item(declared.kind) is None:
            found = self.section(node, what, classes[0])
            return self.MISSING if found is None else found
        read = [self.section(item, what, _form(item, classes)) for item in self.items(node, what)]
        return tuple(item for item in read if item is not None) or self.MISSING

    def _dictionary(self, node: yaml.Node, what: str, declared: Key) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.plain(node) or {}
        such = f" such as {declared.example}" if declared.example else ""
        self.problem(node, f"{what}: must be a mapping{such}, not {shown(node)}")
        return self.MISSING

    def _list(self, node: yaml.Node, what: str, declared: Key) -> Any:
        """Return a list of scalars, one scalar being a list of one; wrong items and repetitions are noted."""
        nodes = self.items(node, what) if isinstance(node, yaml.SequenceNode) else [node]
        kind, length = _item(declared.kind), _length(declared.kind)
        found: list[Any] = []
        for item in nodes:
            value = self._scalar(item, what, declared, kind)
            if value is self.MISSING:
                continue
            if length is None and value in found:
                self.problem(item, f"{what}: {value!r} is given twice; keep one")
            else:
                found.append(value)
        if length is not None and nodes and len(nodes) != length:
            self.problem(node, f"{what}: must be {declared.allowed or f'{length} values'}, not {len(nodes)}")
            return self.MISSING
        return tuple(found) if found and (length is None or len(found) == length) else self.MISSING

    def _scalar(self, node: yaml.Node, what: str, declared: Key, kind: Any) -> Any:
        value = self.value(node, what, kind, self.MISSING)
        if value is self.MISSING or value is None:
            return value
        if declared.refuses(value):
            self.problem(node, f"{what}={value!r}: must be {declared.range}")
            return self.MISSING
        return value if declared.path is None else self._path(node, what, str(value), declared)

    def _path(self, node: yaml.Node, what: str, value: str, declared: Key) -> Any:
        """Return the absolute path of a value that is relative to the file in which it stands, or to the working directory."""
        file = Path(node.start_mark.name)
        folder = declared.path == "folder"
        try:
            for place in (file.parent / Path(value).expanduser(), Path(value).expanduser()):
                if place.is_dir() if folder else place.exists():
                    return str(place.resolve())
        except (OSError, RuntimeError, ValueError):  # too long a name, an unknown user after ~, a null character
            pass
        what_it_is = "folder" if folder else "file"
        self.problem(node, f"{what}={value!r}: no such {what_it_is} beside {file.name} or in the working directory")
        return self.MISSING


def _form(node: yaml.Node, classes: list[type]) -> type:
    """Return the form that a mapping has: the last one whose marking key is there, else the first."""
    given = {str(key.value) for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
    marked = [cls for cls in classes if any(k.marks and name in given for name, k in keys(cls).items())]
    return marked[-1] if marked else classes[0]


def _item(kind: Any) -> Any:
    """Return the type of a list's items, or None if the type is no list."""
    for option in typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,):
        if typing.get_origin(option) is tuple:
            return typing.get_args(option)[0]
    return None


def _length(kind: Any) -> int | None:
    """Return the length of a list type that has one."""
    arguments = typing.get_args(kind)
    return None if typing.get_origin(kind) is not tuple or Ellipsis in arguments else len(arguments)
