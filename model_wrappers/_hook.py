"""Registers our models with lm-eval when lm-eval loads its own models.

The ``.pth`` file beside this module runs at every start of the interpreter. It only installs an import finder, which waits for
the import of ``lm_eval.models`` and then calls this module. Our models must not be registered earlier, because lm-eval loads
its own models only if its registry is empty. Every entry point of the group ``lm_eval.models`` that lm-eval has not registered
becomes a placeholder, which is imported when it is used. If lm-eval reads the group itself, nothing is registered.
``OVERTRAIN_NO_HOOK=1`` switches the hook off; ``python -m model_wrappers`` works without it.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["GROUP", "find_spec", "register"]

GROUP = "lm_eval.models"

log = logging.getLogger(__name__)


def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG001
    """Return the spec of ``lm_eval.models``, extended so that `register` runs after the module; None if switched off."""
    if os.environ.get("OVERTRAIN_NO_HOOK"):
        return None
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return None
    execute = spec.loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        try:
            register()
        except Exception:
            log.warning("lm-eval-overtrain could not register its models", exc_info=True)

    spec.loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


def register() -> list[str]:
    """Register the entry points of the group that lm-eval does not know; return their names.

    lm-eval's registry accepts ``"module:object"`` placeholders and imports them on first use, so only metadata is read here. If
    lm-eval reads entry points itself, nothing is registered, because it would find that the names already exist.
    """
    from lm_eval.api import registry

    added = []
    if not _discovers_itself(registry):
        for point in entry_points(group=GROUP):
            if point.name not in registry.model_registry:
                registry.model_registry.register(point.name, target=point.value)
                added.append(point.name)
    if _is_lm_eval_command():
        from model_wrappers.errors import install_excepthook

        install_excepthook()
    return added


def _discovers_itself(registry: ModuleType) -> bool:
    """Return whether this lm-eval reads the entry-point group; the source code of its modules shows it."""
    sources = [inspect.getsource(registry), inspect.getsource(sys.modules["lm_eval.models"])]
    return any("entry_points(" in s and GROUP in s for s in sources)


def _is_lm_eval_command() -> bool:
    """Return whether lm-eval's own command line is running (``lm_eval`` or ``python -m lm_eval``)."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    script = Path(sys.argv[0]).name.replace("-", "_") if sys.argv else ""
    return script == "lm_eval" or (spec is not None and spec.name.partition(".")[0] == "lm_eval")
