"""Declares the keys of a YAML file. Reading, error messages, identities and documentation all use these declarations.

A section of a file is a frozen dataclass whose fields are declared with `key`. The declaration contains the type (the
annotation), the default, the allowed values, the meaning, and whether the value changes scores. Keys are listed nowhere else.
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
"""Whether a value is part of the identity of results: ``changed`` values are, if they differ from the default.

Keys that are added in later versions are ``changed``. Then cells that do not use such a key keep their identities and results.
"""


@dataclass(frozen=True, kw_only=True)
class Key:
    """The declaration of one key; see `key` for the fields that are not explained here.

    Attributes:
        name: name of the key in a file.
        field: attribute of the dataclass.
        kind: type of the value in a file.
        default: the value if the file does not give the key; `dataclasses.MISSING` if the key is required.
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
        """The allowed values in words; None if every value of the type is allowed."""
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
        """Return whether a value of the right type is outside of the allowed range."""
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
        default: the value if the file does not give the key; without a default, the key is required.
        doc: the meaning with its unit, for the documentation.
        factory: makes the default if it is a dictionary or another section.
        name: name in the file, if it differs from the field's name.
        kind: type in the file, if it differs from the annotation.
        allowed: the allowed values in words, if the bounds below do not express them.
        least: the smallest number allowed.
        above: a number must be greater than this.
        most: the largest number allowed.
        below: a number must be less than this.
        pattern: a regular expression that text must match as a whole.
        path: the value is a path, relative to the file that contains it; ``folder``: the path of a folder.
        identity: whether the value is part of the identity of results.
        example: an example value, for the error message if the value is not a mapping.
        shortcuts: single words that stand for a whole section.
        rest: the field collects every key that the section does not declare.
        bare: if a file gives a single value in place of the section, it is the value of this key.
        marks: if a section has several forms, the presence of this key selects this form.
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
    """Return the keys of a section, by their names in the file, in order of declaration."""
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
        """Return the values that are part of the identity of results, as JSON data."""
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
        """Check all values against their allowed ranges, for objects that are made in Python.

        Raises:
            ConfigError: a value is out of range; the message gives the value and the allowed range.
        """
        for k in keys(type(self)).values():
            value = getattr(self, k.field)
            for item in value if isinstance(value, tuple) else (value,):
                if k.refuses(item):
                    raise ConfigError(f"{k.name}={item!r}: must be {k.range}")


def sections(kind: Any) -> Iterator[type]:
    """Yield the section classes inside a type: the type itself, members of a union, items of a tuple."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
    elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is tuple:
        for part in typing.get_args(kind):
            yield from sections(part)


def _plain(value: object) -> Any:
    if isinstance(value, FileSection):
        return value.describe()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
