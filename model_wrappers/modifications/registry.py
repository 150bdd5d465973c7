"""Finds all modifications: the files of this folder, and the modifications in users' own packages.

A user's package names its module under the entry-point group ``overtrain.modifications``::

    [project.entry-points."overtrain.modifications"]
    truncate = "overtrain_truncate"

Then ``lm_eval``, studies and reports can use every `Modification` subclass that the module defines or imports, if the class
has its own ``name``. If a package cannot be loaded, only its modifications are missing; see `broken`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import logging
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from model_wrappers.modifications.base import Modification

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "broken", "registry"]

GROUP = "overtrain.modifications"
_log = logging.getLogger(__name__)


def registry() -> dict[str, type[Modification]]:
    """Return every modification by name, in alphabetical order.

    The modules are imported, but torch is not: modifications import it inside `Modification.apply`.
    """
    return dict(_found()[0])


def broken() -> list[str]:
    """Return one message for every installed package whose modifications cannot be used."""
    return list(_found()[1])


@functools.cache
def _found() -> tuple[dict[str, type[Modification]], list[str]]:
    package = importlib.import_module("model_wrappers.modifications")
    found: dict[str, type[Modification]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        found |= {
            cls.name: cls for cls in _classes(vars(importlib.import_module(f"{package.__name__}.{module}")).values())
        }
    problems: list[str] = []
    claimed: dict[str, list[tuple[str, type[Modification]]]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (_package(p), p.name)):
        try:
            added = _of_package(point, found)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (somebody else's package may raise anything)
            problems.append(
                f"package {_package(point)}: its modifications are left out ({type(error).__name__}: {error}); update it or "
                f"uninstall it (entry point {point.name} = {point.value})"
            )
            continue
        for name, cls in added.items():
            claimed.setdefault(name, []).append((_package(point), cls))
    for name, claims in claimed.items():
        if len(claims) == 1:
            found[name] = claims[0][1]
        else:
            packages = " and ".join(package for package, _ in claims)
            problems.append(
                f"packages {packages}: each has a modification called {name!r}, so neither is used; uninstall one"
            )
    for problem in problems:
        _log.warning(problem)
    return dict(sorted(found.items())), problems


def _of_package(point: EntryPoint, known: dict[str, type[Modification]]) -> dict[str, type[Modification]]:
    """Return the modifications that an entry point adds to the ``known`` ones.

    Raises:
        ValueError: it adds none, one is incomplete, or one has the name of a known modification.
    """
    loaded = point.load()
    values = [loaded] if isinstance(loaded, type) else vars(loaded).values()
    found = {cls.name: cls for cls in _classes(values) if known.get(cls.name) is not cls}
    if not found:
        raise ValueError("no Modification subclass with a name of its own")
    for name, cls in found.items():
        if name in known:
            raise ValueError(f"the name {name!r} is taken by {known[name].__module__}")
        lacking = [what for what in ("source", "category") if not isinstance(getattr(cls, what, None), str)]
        if lacking or inspect.isabstract(cls):
            raise ValueError(f"{cls.__name__} lacks {', '.join(lacking or sorted(cls.__abstractmethods__))}")
        if any(isinstance(value, dataclasses.Field) for value in vars(cls).values()):
            raise ValueError(f"{cls.__name__} lacks the decorator @dataclass(frozen=True, kw_only=True)")
        _check_named_fields(cls)
    return found


def _check_named_fields(cls: type[Modification]) -> None:
    """Check that what the class says of its fields is about fields that it has.

    Raises:
        ValueError: it is not.
    """
    fields = set(cls.fields())
    for what, names in (("neutral", set(cls.neutral or ())), ("axes", {axis.field for axis in cls.axes})):
        if names - fields:
            raise ValueError(
                f"{cls.__name__}.{what} names {', '.join(sorted(names - fields))}, which is no field of it"
            )


def _classes(values: Iterable[object]) -> Iterator[type[Modification]]:
    for value in values:
        if isinstance(value, type) and issubclass(value, Modification) and isinstance(vars(value).get("name"), str):
            yield value


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
