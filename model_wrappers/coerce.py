"""Reads a value from a command line or a YAML file as the type of a field's annotation."""

from __future__ import annotations

import math
import types
import typing
from typing import Any

from model_wrappers.errors import ConfigError

__all__ = ["coerce"]


def coerce(name: str, value: object, annotation: Any) -> Any:
    """Return ``value`` as the type of ``annotation``.

    PyYAML reads ``1e-5`` as text, and lm-eval reads ``revision=1000`` as an int; both are converted here.

    >>> coerce("learning_rate", "1e-5", float)
    1e-05
    >>> coerce("max_steps", "20", int | None)
    20
    >>> coerce("lora_targets", "q_proj+v_proj", tuple[str, ...])
    ('q_proj', 'v_proj')

    Raises:
        ConfigError: the value cannot be read as the annotation's type.
    """
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if types.NoneType in options and (value is None or str(value).lower() in {"none", "null"}):
        return None
    for option in (o for o in options if o is not types.NoneType):
        try:
            return _read(value, option)
        except (TypeError, ValueError, OverflowError):
            continue
    raise ConfigError(
        f"{name}={value!r}: must be {' or '.join(map(_readable, options))}; give it as such or leave it out"
    )


def _read(value: object, kind: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError
        return value
    if origin is tuple:
        items = value.split("+") if isinstance(value, str) else list(typing.cast("list[object]", value))
        return tuple(_read(item, typing.get_args(kind)[0]) for item in items)
    return _READERS[kind](value)


def _boolean(value: Any) -> bool:
    text = str(value).lower()
    if text not in {"true", "false"}:
        raise ValueError
    return text == "true"


def _integer(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError
    return value if isinstance(value, int) else int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool):  # bool is a subclass of int, but True is not a number for users
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError
    return str(value)


_READERS = {bool: _boolean, int: _integer, float: _number, str: _text}
_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "text",
    types.NoneType: "none",
}


def _readable(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return "a list, its items joined by '+'"
    return _WORDS[kind]
