"""Converts frozen dataclasses to JSON data and back, and checks every value against its annotation.

Supported types are dataclasses, ``tuple[X, ...]``, ``Mapping[str, X]``, ``Literal``, unions with ``None``, str, int, float and
bool. A float without a fraction is accepted for an int, and an int for a float. Text is never read as a number.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Value", "from_json", "to_json"]

T = TypeVar("T")
Value = str | int | float | bool | None
"""A single value, such as the value of a modification's field. A list becomes text, with its items joined by ``+``."""


class _MismatchError(ValueError):
    """A value does not fit its annotation. While the error is passed up, `inside` adds to the place of the value."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place, self.problem = place, problem

    def inside(self, place: str) -> _MismatchError:
        return _MismatchError(
            f"{place}{'' if self.place.startswith('[') or not self.place else '.'}{self.place}", self.problem
        )

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" if self.place else self.problem


def to_json(value: object) -> Any:
    """Return ``value`` as JSON data: a dataclass becomes a dictionary of all its fields, a tuple a list.

    >>> import collections
    >>> to_json((1, {"a": (2.5, None)}))
    [1, {'a': [2.5, None]}]
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[T], value: object) -> T:
    """Return JSON data as the dataclass ``kind``.

    Raises:
        ValueError: a key is missing or unknown, or a value has the wrong type; the message names the place.
    """
    found: T = _reader(typing.cast("typing.Hashable", kind))(value)
    return found


@functools.cache
def _reader(annotation: Any) -> Callable[[Any], Any]:
    """Return a function that reads JSON data as ``annotation``."""
    if dataclasses.is_dataclass(annotation):
        return _dataclass_reader(typing.cast("type", annotation))
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {types.UnionType, typing.Union}:
        return _union_reader(arguments)
    if origin is Literal:
        return _literal_reader(arguments)
    if origin is tuple:
        return _list_reader(_reader(arguments[0]), None if arguments[-1] is Ellipsis else len(arguments))
    if origin in {Mapping, dict}:
        return _mapping_reader(_reader(arguments[1]))
    return _SCALARS[annotation]


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    readers = {f.name: _reader(hints[f.name]) for f in fields}
    needed = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _MismatchError("", f"{value!r} is no {kind.__name__}")
        if missing := [name for name in needed if name not in value]:
            raise _MismatchError(missing[0], "is missing")
        given = {}
        for name, item in value.items():
            if name not in readers:
                raise _MismatchError(name, f"is no field of {kind.__name__}")
            try:
                given[name] = readers[name](item)
            except _MismatchError as error:
                raise error.inside(name) from None
        return kind(**given)

    return read


def _union_reader(options: tuple[Any, ...]) -> Callable[[Any], Any]:
    readers = [_reader(option) for option in options if option is not types.NoneType]
    optional = types.NoneType in options
    exact = frozenset(option for option in options if option in _SCALARS)

    def read(value: Any) -> Any:
        if (value is None and optional) or type(value) in exact:  # 2.0 stays a float if int and float are both allowed
            return value
        problem: _MismatchError | None = None
        for reader in readers:
            try:
                return reader(value)
            except _MismatchError as error:
                problem = problem or error
        raise problem or _MismatchError("", f"{value!r} is not null")

    return read


def _literal_reader(allowed: tuple[Any, ...]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in allowed:
            raise _MismatchError("", f"{value!r} is none of {', '.join(map(repr, allowed))}")
        return value

    return read


def _list_reader(item: Callable[[Any], Any], length: int | None) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _MismatchError("", f"{value!r} is no list")
        if length is not None and len(value) != length:
            raise _MismatchError("", f"{value!r} has {len(value)} items instead of {length}")
        found = []
        for place, each in enumerate(value):
            try:
                found.append(item(each))
            except _MismatchError as error:
                raise error.inside(f"[{place}]") from None
        return tuple(found)

    return read


def _mapping_reader(item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _MismatchError("", f"{value!r} is no mapping")
        found = {}
        for name, each in value.items():
            try:
                found[name] = item(each)
            except _MismatchError as error:
                raise error.inside(name) from None
        return found

    return read


def _scalar(kind: type, name: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise _MismatchError("", f"{value!r} is not {name}")
        return value

    return read


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise _MismatchError("", f"{value!r} is not an integer")


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise _MismatchError("", f"{value!r} is not a number")


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    str: _scalar(str, "text"),
    bool: _scalar(bool, "true or false"),
    int: _integer,
    float: _number,
    Any: lambda value: value,
}
