"""File stamps: digests of names, sizes and modification times, which change when files change.

A stamp is cheap, because no contents are read. As long as a stamp is the same, the planner reuses the identities that it
computed before.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.identity import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from overtrain.plan.cells import Cell

__all__ = ["checkpoint_stamp", "data_stamp", "tasks_stamp"]

_WEIGHTS = (".safetensors", ".bin")
_PACKAGES = ("lm_eval", "lm-eval-overtrain", "transformers", "datasets")
_VARIABLES = ("OVERTRAIN_DATA", "OVERTRAIN_FEWSHOT_SPLIT")


def checkpoint_stamp(checkpoint: Checkpoint) -> str:
    """Return the stamp of a checkpoint: its fingerprint, and the files beside its weights.

    For a repository of the hub, the commit takes the place of the files.

    Raises:
        CheckpointError: as `Checkpoint.fingerprint`.
    """
    beside: Any = checkpoint.sha()
    if checkpoint.is_local:
        folder = Path(checkpoint.location()) / checkpoint.subfolder
        beside = _files(p for p in folder.iterdir() if p.is_file() and p.suffix not in _WEIGHTS)
    return digest([checkpoint.fingerprint(), beside])


def tasks_stamp(cell: Cell, text_file: str | None) -> str:
    """Return the stamp of everything that decides a cell's requests: tasks, settings, task files, local rows, versions.

    Rows on the hub are not part of the stamp. The evaluation reads them again and compares their hashes.
    """
    import overtrain_tasks

    evaluation = cell.evaluation
    folders = [overtrain_tasks.path(), evaluation.include_path, os.environ.get("OVERTRAIN_DATA")]
    stamps = [_tree(Path(folder)) for folder in folders if folder]
    text = _files([Path(text_file)]) if text_file else None
    named = [os.environ.get(name) for name in _VARIABLES]
    return digest([sorted(cell.tasks), evaluation.identity(), stamps, text, named, [version(p) for p in _PACKAGES]])


def data_stamp(cell: Cell) -> str:
    """Return the stamp of the local files that the cell's modifications read."""
    root = os.environ.get("OVERTRAIN_DATA")
    found = []
    named = [getattr(m, name) for m in cell.modifications for name in m.files()]
    for value in (v for v in named if v):
        path = Path(str(value)).expanduser()
        if path.is_file():
            found.append(_files([path]))
        elif path.is_dir():
            found.append(_tree(path))
    return digest([found, _tree(Path(root)) if root else None, version("lm-eval-overtrain")])


def _tree(folder: Path) -> list[Any]:
    return _files(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")


def _files(paths: Iterable[Path]) -> list[Any]:
    found = []
    for path in sorted(paths):
        status = path.stat()
        found.append([str(path), status.st_size, status.st_mtime_ns])
    return found
