"""Turns YAML nodes into plain values, and collects every mistake with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, close_match

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["NodeReader", "beside", "child", "is_null", "parse_yaml", "shown"]


def parse_yaml(file: Path, levels: str) -> yaml.Node | None:
    """Return a YAML file's tree of nodes, each of which knows its file and line; None for an empty file.

    Args:
        file: the file to read.
        levels: how deep a file of this kind is nested, for the message.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8 or not YAML, or is nested too deeply.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); give a YAML file in UTF-8") from error
    try:
        loader = yaml.SafeLoader(text)
        loader.name = str(file)
        return loader.get_single_node()
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply to be read; {levels}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{file}{where}: not valid YAML: {reason}") from error


class NodeReader:
    """Turns nodes into values and collects their errors, so that a user sees all errors at once."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, int, str]] = []

    def problem(self, node: yaml.Node, message: str) -> None:
        """Collect ``message`` with the line where ``node`` starts; equal messages for one line count once."""
        found = (str(node.start_mark.name), node.start_mark.line + 1, message)
        if found not in self.problems:
            self.problems.append(found)

    def finish(self, file: Path) -> None:
        """Raise an error with all collected messages.

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
        """Return key -> value node, in the file's order. Unknown, repeated and missing keys are collected as errors.

        Args:
            node: the node, which must be a mapping.
            what: name of the mapping in messages.
            allowed: the allowed keys; None for any.
            required: the keys that must be present.
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
        """Return the items of a list, which must have at least one item."""
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


def beside(value: str, *folders: Path) -> str:
    """Return the path of a data file that lies in one of ``folders``; anything else is left to the data loader."""
    try:
        for folder in folders:
            if (folder / value).is_file():
                return str((folder / value).resolve())
    except OSError:  # too long for a path
        pass
    return value
