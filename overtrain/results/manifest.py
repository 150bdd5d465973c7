"""``study.json``: the study as it was last swept, so that its results can be read without its YAML file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole
from overtrain.plan.reference import generates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from overtrain.plan.cells import Cell
    from overtrain.plan.jobs import Plan
    from overtrain.results.store import Store
    from overtrain.study.study import Study

__all__ = ["read_manifest", "refused", "write_manifest"]

_NAME = "study.json"
_PARTS = {
    "weights": "weights, configuration or training data",
    "tasks": "evaluation rows or tasks",
    "dtype": "dtype",
    "tokenizer": "the tokenizer",
    "lm_eval": "the version of lm-eval",
}


def write_manifest(study: Study, cells: Sequence[Cell], plan: Plan, root: Path) -> dict[str, Any]:
    """Write the study's cells with labels and identities; return what was written.

    Raises:
        StoreError: it cannot be written.
    """
    jobs = {job.cell.key: job for job in plan.jobs}
    entries = []
    same = [cell.key for cell in cells if cell.key not in jobs and cell.key not in plan.problems]
    for cell in cells:
        job = jobs.get(cell.key)
        if cell.key in same:  # other words for the same weights and requests as another cell
            continue
        entries.append(
            {
                "key": cell.key,
                "cell_id": job.cell_id if job else None,
                "weights_id": job.weights_id if job else None,
                "problem": plan.problems.get(cell.key),
                "label": cell.label,
                "checkpoint": cell.checkpoint,
                "family": (cell.base or cell.point).family,
                "run": (cell.base or cell.point).run,
                "tokens": cell.point.tokens,
                "checkpoint_learning_rate": cell.point.learning_rate,
                "variant": cell.variant,
                "modification": cell.modification,
                "seed": cell.seed,
                "fields": cell.columns(),
                **({"answers": True} if generates(cell) else {}),
                **({} if cell.curve else {"reference_only": True}),
            }
        )
    content = {"format": 1, "study": study.describe(), "cells": entries, "same": same}
    write_whole(root / _NAME, json.dumps(content, indent=1, ensure_ascii=False).encode())
    return content


def read_manifest(root: Path) -> dict[str, Any] | None:
    """Return what `write_manifest` wrote, or None if there is none.

    Raises:
        StoreError: it is damaged.
    """
    path = root / _NAME
    try:
        content = json.loads(path.read_bytes())
        content["cells"], content["same"], content["study"]["name"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged ({error!r}); delete it and run the study again (its cells are kept)"
        ) from error
    return dict(content)


def refused(before: dict[str, Any] | None, plan: Plan, store: Store) -> list[str]:
    """Return a message for every finished cell whose weights, rows or versions are not those of today.

    Such a cell is not used any more: what is asked for now has another identity, and is evaluated again.
    """
    known = {entry["key"]: entry["cell_id"] for entry in (before or {}).get("cells", []) if entry["cell_id"]}
    messages: dict[str, int] = {}
    for job in plan.jobs:
        old = known.get(job.cell.key)
        if old is None or old == job.cell_id or store.state(old).status != "done":
            continue
        identity = json.loads(store.read(old, "spec.json"))["identity"]
        changed = [words for name, words in _PARTS.items() if identity.get(name) != job.identity[name]]
        message = f"{job.cell.checkpoint}, {job.cell.variant}: {' and '.join(changed)} changed since"
        messages[message] = messages.get(message, 0) + 1
    return [
        f"{count} finished cell{'s' if count > 1 else ''} of {text}; not reused" for text, count in messages.items()
    ]
