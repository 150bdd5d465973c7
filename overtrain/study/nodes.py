"""YAML nodes become plain values; every mistake is collected with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, close_match

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["NodeReader", "child", "is_null", "shown"]


class NodeReader:
    """Turns nodes into values and collects what is wrong with them, so that a user sees all errors at once."""

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
