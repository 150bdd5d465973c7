"""Chooses the split that few-shot examples come from.

By default, this is upstream's split (``train``, for MMLU ``dev``). A local mirror may not have that split. Then it is the
first of ``train``, ``heldout``, ``validation`` that the mirror has and that is not evaluated. If there is no other split, the
examples come from the evaluated split, without the document under evaluation. The choice is logged once, and is part of the
results JSON (``configs.<task>.metadata.fewshot_split``).

``OVERTRAIN_FEWSHOT_SPLIT`` sets the split: ``heldout`` for every task, ``sciq=heldout;piqa=train`` for the named tasks, or
both together (``heldout;mmlu=dev``).
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError, DataError, close_match

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ["FEWSHOT_VARIABLE", "choose", "requested"]

FEWSHOT_VARIABLE = "OVERTRAIN_FEWSHOT_SPLIT"
_FALLBACKS = ("train", "heldout", "validation")
_PREFIX = "overtrain_"
_log = logging.getLogger(__name__)


def choose(
    task: str,
    *,
    preferred: str,
    evaluated: str,
    splits: Callable[[], Sequence[str]],
    mirrored: bool,
    known: Callable[[], Collection[str]],
) -> str:
    """Return the split that the few-shot examples of a task come from.

    Args:
        task: the task's name, for messages and for ``OVERTRAIN_FEWSHOT_SPLIT``.
        preferred: upstream's split.
        evaluated: the split that is scored.
        splits: returns all splits. It is called only if necessary, because it may ask the hub.
        mirrored: whether rows come from a local mirror, which may not have ``preferred``. The hub always has it.
        known: returns the names of the tasks that ``OVERTRAIN_FEWSHOT_SPLIT`` may mention.

    Raises:
        ConfigError: ``OVERTRAIN_FEWSHOT_SPLIT`` is malformed or names an unknown task.
        DataError: ``OVERTRAIN_FEWSHOT_SPLIT`` names a split that does not exist.
    """
    explicit = requested(task, os.environ.get(FEWSHOT_VARIABLE, ""), known)
    if explicit is not None:
        if explicit not in (there := splits()):
            raise DataError(
                f"{FEWSHOT_VARIABLE}: {task} has no split {explicit!r}, it has {', '.join(there)}"
                f"{close_match(explicit, there)}; choose one of them, e.g. "
                f"{FEWSHOT_VARIABLE}='{_short(task)}={there[0] if there else preferred}'"
            )
        return explicit
    if not mirrored:
        return preferred
    there = splits()
    if preferred in there:
        return preferred
    chosen = next((s for s in _FALLBACKS if s in there and s != evaluated), evaluated)
    _log.warning("%s: no split %r for few-shot examples; they come from %r", task, preferred, chosen)
    return chosen


def requested(task: str, value: str, known: Callable[[], Collection[str]]) -> str | None:
    """Return the split that ``value``, the value of ``OVERTRAIN_FEWSHOT_SPLIT``, sets for ``task``; None if it sets none.

    >>> known = lambda: ["overtrain_piqa", "overtrain_sciq"]
    >>> requested("overtrain_piqa", "heldout;piqa=train", known)
    'train'
    >>> requested("overtrain_sciq", "heldout;piqa=train", known)
    'heldout'

    Raises:
        ConfigError: an entry is malformed, repeated, or names an unknown task.
    """
    chosen: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in value.split(";"))):
        name, equals, split = (part.strip() for part in entry.rpartition("="))
        name = _short(name)
        if not split or (equals and not name) or name in chosen:
            raise ConfigError(
                f"{FEWSHOT_VARIABLE}={value!r}: {entry!r} is malformed or repeats an entry; give 'SPLIT' or "
                "'TASK=SPLIT;TASK=SPLIT'"
            )
        if name and name not in (names := {_short(other) for other in (*known(), task)}):
            raise ConfigError(
                f"{FEWSHOT_VARIABLE}={value!r}: no task {name!r}{close_match(name, names)}; name one of "
                f"{', '.join(sorted(names))}"
            )
        chosen[name] = split
    return chosen.get(_short(task), chosen.get(""))


def _short(task: str) -> str:
    return task.removeprefix(_PREFIX)
