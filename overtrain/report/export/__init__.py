"""A study's results in the forms that other tools read: one file per form, found by being in this folder."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from overtrain.report.export.form import ExportForm

__all__ = ["export", "form_names", "load_form"]

_SHARED = {"form"}
"""Modules of this folder that are no form."""


def form_names() -> list[str]:
    """Return the names of the forms, which are those of their files."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED)


def load_form(name: str) -> ExportForm:
    """Return the form of this name.

    Raises:
        ConfigError: there is none.
    """
    from overtrain.report.export.form import ExportForm

    if name not in form_names():
        raise ConfigError(f"form={name!r}: must be one of {', '.join(form_names())}; give one of them")
    module = importlib.import_module(f"{__name__}.{name}")
    (found,) = [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, ExportForm) and thing.__module__ == module.__name__
    ]
    return found()


def export(run_folder: Path, out: Path | None = None, *, form: str, organization: str = "unknown") -> Path:
    """Write every finished cell of a study in another form; return the folder.

    Args:
        run_folder: ``runs/<study>``.
        out: where to write; ``<run_folder>/export/<form>`` by default.
        form: one of `form_names`; each says in its own file what it writes.
        organization: who ran the study, for the forms that name it.

    Raises:
        ConfigError: no such form.
        StoreError: there is no study in the folder, none of its cells is finished, or a file is damaged.
    """
    writer = load_form(form)
    folder = out or run_folder / "export" / form
    if not writer.write(run_folder, folder, organization=organization):
        raise StoreError(f"{run_folder} {writer.needs}")
    return folder
