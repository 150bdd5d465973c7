"""The sections of the report, one file each: a module of this folder with one `Section` subclass is found by being here."""

from __future__ import annotations

import importlib
import pkgutil

from overtrain.report.section import Section

__all__ = ["all_sections"]


def all_sections() -> list[Section]:
    """Return the sections by their place on the page."""
    found: list[Section] = []
    for module in pkgutil.iter_modules(__path__):
        imported = importlib.import_module(f"{__name__}.{module.name}")
        found += [
            thing()
            for thing in vars(imported).values()
            if isinstance(thing, type) and issubclass(thing, Section) and thing.__module__ == imported.__name__
        ]
    return sorted(found, key=lambda section: (section.order, section.key))
