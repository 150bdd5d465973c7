"""Registers our models with lm-eval as soon as lm-eval loads its own, whoever imports it.

The ``.pth`` file beside this module runs at every start of the interpreter and only leaves a finder behind that waits
for one import, ``lm_eval.models``; the finder then comes here. Registering earlier would fill lm-eval's registry, which
then skips loading its built-in models. Afterwards every entry point of the group ``lm_eval.models`` that lm-eval has not
registered becomes a lazy placeholder. An lm-eval that reads the group itself is left alone. ``OVERTRAIN_NO_HOOK=1``
switches the hook off; ``python -m model_wrappers`` works without it.
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
    """Return the ordinary spec of ``lm_eval.models``, whose execution is followed by `register`; None to stand aside."""
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

    lm-eval's registry takes ``"module:object"`` placeholders and resolves them on first use, so nothing is imported here
    but metadata. Where lm-eval reads entry points itself, nothing is registered: its own discovery would find the names
    taken.
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
    """Tell whether this lm-eval reads our entry point group, from the source of the modules that could."""
    sources = [inspect.getsource(registry), inspect.getsource(sys.modules["lm_eval.models"])]
    return any("entry_points(" in s and GROUP in s for s in sources)


def _is_lm_eval_command() -> bool:
    """Tell whether lm-eval's console script or ``python -m lm_eval`` runs, rather than somebody's own program."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    script = Path(sys.argv[0]).name.replace("-", "_") if sys.argv else ""
    return script == "lm_eval" or (spec is not None and spec.name.partition(".")[0] == "lm_eval")
