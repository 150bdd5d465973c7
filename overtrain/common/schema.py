"""One declaration per key of a YAML file, from which reading, messages, identities and documentation follow.

A section of a file is a frozen dataclass whose fields are declared with `key`. The declaration carries the type (the
annotation), the default, the allowed values, the meaning, and whether the value decides scores. Nothing else lists keys.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from model_wrappers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["FileSection", "Identity", "Key", "key", "keys", "sections"]

Identity = Literal["none", "always", "changed"]
"""Whether a value decides scores: ``changed`` enters the identity only when it is not the default.

A key that is added later is ``changed``: cells that do not use it then keep their identities and their results.
"""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is declared about one key; see `key` for the fields that are not explained here.

    Attributes:
        name: as it is written in a file.
        field: the attribute of the dataclass.
        kind: the type as it is written in a file.
        default: the value when the file does not give the key; `dataclasses.MISSING` if the key is required.
    """

    name: str
    field: str
    kind: Any
    default: Any
    doc: str
    allowed: str | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    pattern: str | None = None
    path: Literal["any", "folder"] | None = None
    identity: Identity = "none"
    example: str | None = None
    shortcuts: Mapping[str, Any] | None = None
    rest: bool = False
    bare: bool = False
    marks: bool = False

    @property
    def required(self) -> bool:
        """Whether a file must give the key."""
        return self.default is dataclasses.MISSING

    @property
    def range(self) -> str | None:
        """The allowed values in words, or None where the type says everything."""
        if self.allowed is not None:
            return self.allowed
        if self.least is not None and self.most is not None:
            return f"from {self.least:,.12g} to {self.most:,.12g}"
        words = [
            *([f"greater than {self.above:g}"] if self.above is not None else []),
            *([f"{self.least:g} or more"] if self.least is not None else []),
            *([f"at most {self.most:,.12g}"] if self.most is not None else []),
            *([f"less than {self.below:g}"] if self.below is not None else []),
        ]
        return " and ".join(words) or None

    def refuses(self, value: object) -> bool:
        """Say whether a value of the right type is outside the allowed range."""
        if isinstance(value, str):
            return self.pattern is not None and re.fullmatch(self.pattern, value) is None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (
            (self.least is not None and not value >= self.least)
            or (self.above is not None and not value > self.above)
            or (self.most is not None and not value <= self.most)
            or (self.below is not None and not value < self.below)
        )


def key(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    factory: Callable[[], Any] | None = None,
    name: str | None = None,
    kind: Any = None,
    allowed: str | None = None,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    pattern: str | None = None,
    path: Literal["any", "folder"] | None = None,
    identity: Identity = "none",
    example: str | None = None,
    shortcuts: Mapping[str, Any] | None = None,
    rest: bool = False,
    bare: bool = False,
    marks: bool = False,
) -> Any:
    """Declare a dataclass field as a key of a file.

    Args:
        default: the value when the file does not give the key; without a default the key is required.
        doc: the meaning with its unit, for the documentation.
        factory: makes the default where it is a dictionary or another section.
        name: in the file, where it is not the field's name.
        kind: the type in the file, where it is not the annotation.
        allowed: the allowed values in words, where the bounds do not say it.
        least: the smallest number allowed.
        above: a number must be greater than this.
        most: the largest number allowed.
        below: a number must be less than this.
        pattern: a regular expression that text must match as a whole.
        path: the value names something on disk, relative to the file in which it stands; ``folder``: it is a folder.
        identity: whether the value decides scores.
        example: a value, for the message about a mapping that is none.
        shortcuts: single words that stand for a whole section.
        rest: the field collects every key that the section does not declare.
        bare: a bare value in place of the section is the value of this key.
        marks: among several forms of a section, this key says that the file means this form.
    """
    declared = {
        "doc": doc,
        "name": name,
        "kind": kind,
        "allowed": allowed,
        "least": least,
        "above": above,
        "most": most,
        "below": below,
        "pattern": pattern,
        "path": path,
        "identity": identity,
        "example": example,
        "shortcuts": shortcuts,
        "rest": rest,
        "bare": bare,
        "marks": marks,
    }
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata={"key": declared})
    return dataclasses.field(default=default, metadata={"key": declared})


def keys(cls: type) -> dict[str, Key]:
    """Return what a section declares, by the name in the file, in order of declaration."""
    return _keys(cls)


@functools.cache
def _keys(cls: Any) -> dict[str, Key]:
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        declared = field.metadata.get("key")
        if declared is None:
            continue
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        own = declared | {"name": declared["name"] or field.name, "kind": declared["kind"] or hints[field.name]}
        found[own["name"]] = Key(field=field.name, default=default, **own)
    return found


class FileSection:
    """Base of the dataclasses that are sections of a file."""

    def identity(self) -> dict[str, Any]:
        """Return the values that decide scores, as JSON data."""
        values = {k.name: (k, getattr(self, k.field)) for k in keys(type(self)).values()}
        return {
            name: _plain(value)
            for name, (k, value) in values.items()
            if k.identity == "always" or (k.identity == "changed" and value != k.default)
        }

    def describe(self) -> dict[str, Any]:
        """Return every key with its value, as JSON data."""
        return {k.name: _plain(getattr(self, k.field)) for k in keys(type(self)).values()}

    def check(self) -> None:
        """Raise for the first value outside its allowed range, for objects that are made in Python.

        Raises:
            ConfigError: it names the value and what is allowed.
        """
        for k in keys(type(self)).values():
            value = getattr(self, k.field)
            for item in value if isinstance(value, tuple) else (value,):
                if k.refuses(item):
                    raise ConfigError(f"{k.name}={item!r}: must be {k.range}")


def sections(kind: Any) -> Iterator[type]:
    """Yield the section classes that a type names: itself, the members of a union, the items of a list."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
    elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is tuple:
        for part in typing.get_args(kind):
            yield from sections(part)


def _plain(value: object) -> Any:
    if isinstance(value, FileSection):
        return value.describe()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
