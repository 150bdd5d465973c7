"""YAML with line numbers: nodes instead of values, every error collected, files that include others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, close_match

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Reader", "compose"]

_INCLUDE = "include"
_MISSING: Any = object()


class Reader:
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
            ConfigError: anything was, sorted by file and line.
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
            self.problem(node, f"{what}: must be a mapping (key: value), not {_shown(node)}")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
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
            self.problem(node, f"{what}: must be a list with at least one item, not {_shown(node)}")
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
        """Return a scalar as ``annotation``'s type, or ``default`` where it is absent or wrong (which is noted)."""
        if node is None:
            return default
        if isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what}: must be a value, not a mapping")
            return default
        try:
            return coerce(what, self.plain(node), annotation)
        except ConfigError as error:
            self.problem(node, str(error))
            return default

    def number(self, node: yaml.Node | None, what: str, annotation: Any, above: float, default: Any = None) -> Any:
        """Return a number greater than ``above``, or ``default``."""
        found = self.value(node, what, annotation, default)
        if node is not None and found is not None and found is not default and not found > above:
            self.problem(node, f"{what}={found}: must be greater than {above}")
            return default
        return found

    def values(
        self, node: yaml.Node | None, what: str, annotation: Any, default: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        """Return a list of scalars, one scalar being a list of one; wrong items and repetitions are noted."""
        if node is None:
            return default
        nodes = self.items(node, what) if isinstance(node, yaml.SequenceNode) else [node]
        found = []
        for item in nodes:
            value = self.value(item, what, annotation, _MISSING)
            if value is _MISSING:
                continue
            if value in found:
                self.problem(item, f"{what}: {value!r} is given twice; keep one")
            else:
                found.append(value)
        return tuple(found) or default


def compose(file: Path, reader: Reader) -> yaml.MappingNode:
    """Return the top-level mapping of ``file`` with what it includes merged in.

    ``include: other.yaml`` (or a list) names files beside it. A key of the file itself goes before the same key of an
    included one, a later file before an earlier one; where both are mappings they are merged, anything else is replaced.

    Raises:
        ConfigError: a file cannot be read, is not YAML or no mapping, or files include each other.
    """
    return _compose(file, reader, ())


def _compose(file: Path, reader: Reader, parents: tuple[Path, ...]) -> yaml.MappingNode:
    if file in parents:
        raise ConfigError(
            f"{file}: includes itself by way of {' -> '.join(p.name for p in parents)}; remove one include"
        )
    node = _parse(file)
    merged: yaml.MappingNode | None = None
    kept = []
    for key, value in node.value:
        if key.value != _INCLUDE:
            kept.append((key, value))
            continue
        for name in reader.values(value, _INCLUDE, str):
            part = _compose((file.parent / name).resolve(), reader, (*parents, file))
            merged = part if merged is None else _merge(merged, part)
    own = yaml.MappingNode(node.tag, kept, node.start_mark, node.end_mark)
    return own if merged is None else _merge(merged, own)


def _parse(file: Path) -> yaml.MappingNode:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); give a YAML file in UTF-8") from error
    try:
        loader = yaml.SafeLoader(text)
        loader.name = str(file)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
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


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) and node.value else "nothing"
