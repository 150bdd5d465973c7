"""YAML nodes become values and sections; every mistake is collected with its line."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, OvertrainError, close_match
from overtrain.common.schema import keys, sections

if TYPE_CHECKING:
    from collections.abc import Collection

    from overtrain.common.schema import Key

__all__ = ["Reader", "child", "is_null"]


class Reader:
    """Turns nodes into values and collects what is wrong with them, so that a user sees all errors at once.

    Attributes:
        MISSING: the value of a key that could not be read.
    """

    MISSING: ClassVar[Any] = object()

    def __init__(self) -> None:
        self.problems: list[tuple[str, int, str]] = []

    def problem(self, node: yaml.Node, message: str) -> None:
        """Note ``message`` at the line where ``node`` starts; the same message at the same line counts once."""
        found = (str(node.start_mark.name), node.start_mark.line + 1, message)
        if found not in self.problems:
            self.problems.append(found)

    def finish(self, file: Path) -> None:
        """Raise everything that was noted.

        Raises:
            ConfigError: there are problems; the message has one line for each, sorted by file and line.
        """
        if not self.problems:
            return
        several = len({name for name, _, _ in self.problems}) > 1
        lines = [
            f"  {Path(name).name + ', ' if several or name != str(file) else ''}line {line}: {message}"
            for name, line, message in sorted(self.problems)
        ]
        count = f"{len(lines)} errors" if len(lines) > 1 else "1 error"
        raise ConfigError("\n".join([f"{file}: {count}", *lines]))

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

    def mapping(
        self, node: yaml.Node, what: str, allowed: Collection[str] | None = None, required: Collection[str] = ()
    ) -> dict[str, yaml.Node]:
        """Return key -> value node, in the file's order; unknown, repeated and missing keys are noted.

        Args:
            node: must be a mapping.
            what: how a message calls it.
            allowed: the keys that there are; None for any.
            required: the keys that must be there.
        """
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what}: must be a mapping (key: value), not {shown(node)}")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, f"{what}: a key must be text, not {shown(key)}")
                continue
            name = str(key.value)
            if name in found:
                self.problem(key, f"{what}: {name!r} is given twice; keep one")
            elif allowed is not None and name not in allowed:
                self.problem(
                    key, f"{what}: unknown key {name!r}{close_match(name, allowed)} (allowed: {', '.join(allowed)})"
                )
            else:
                found[name] = value
        for name in required:
            if name not in found:
                self.problem(node, f"{what}: needs {name!r}")
        return found

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        """Return the items of a list with at least one."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.problem(node, f"{what}: must be a list with at least one item, not {shown(node)}")
            return []
        return list(node.value)

    def plain(self, node: yaml.Node) -> Any:
        """Return a node as YAML's own plain data; tags that would build objects are noted."""
        try:
            return yaml.constructor.SafeConstructor().construct_object(node, deep=True)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            self.problem(node, f"not plain data: {str(error).splitlines()[0]}")
            return None

    def value(self, node: yaml.Node | None, what: str, annotation: Any, default: Any = None) -> Any:
        """Return a scalar as ``annotation``'s type, or ``default`` if it is absent or wrong, which is noted."""
        if node is None:
            return default
        if isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what}: must be a value, not a mapping")
            return default
        before = len(self.problems)
        given = self.plain(node)
        if len(self.problems) > before:
            return default
        try:
            return coerce(what, given, annotation)
        except ConfigError as error:
            self.problem(node, str(error))
            return default

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


def child(node: yaml.Node | None, *path: str) -> yaml.Node:
    """Return the value node at ``path`` below a mapping, or the deepest node on the way that exists."""
    assert node is not None
    for name in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next((value for key, value in node.value if str(key.value) == name), None)
        if found is None:
            return node
        node = found
    return node


def is_null(node: yaml.Node) -> bool:
    """Say whether a key stands without a value."""
    return bool(node.tag == "tag:yaml.org,2002:null")


def shown(node: yaml.Node) -> str:
    """Return a node as a message shows it."""
    if isinstance(node, yaml.ScalarNode) and not is_null(node):
        return repr(node.value)
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) and node.value else "nothing"


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
