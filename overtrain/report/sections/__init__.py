"""The sections of the report, one file each: a module of this folder with one `Section` subclass is found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["all_sections"]


def all_sections(folders: Sequence[str] = (), package: str = __name__) -> list[Section]:
    """Return the sections by their place on the page.

    Args:
        folders: where to look; this package's own folder by default.
        package: under which the modules there are imported.
    """
    found: list[Section] = []
    for module in pkgutil.iter_modules(list(folders) or __path__):
        if module.name.startswith("_"):
            continue
        imported = importlib.import_module(f"{package}.{module.name}")
        found += [
            thing()
            for thing in vars(imported).values()
            if isinstance(thing, type) and issubclass(thing, Section) and thing.__module__ == imported.__name__
        ]
    return sorted(found, key=lambda section: (section.order, section.key))
