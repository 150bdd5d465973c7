"""Roughly how many tokens a training takes, to say what a study costs before it runs. Nothing here decides a result."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.training.named import NAMED_SETS

if TYPE_CHECKING:
    from model_wrappers.training.data import DataSpec

__all__ = ["training_tokens"]

_BYTES_PER_TOKEN = 4.0


def training_tokens(
    spec: DataSpec, max_length: int, *, epochs: float, max_steps: int | None, train_batch_size: int
) -> float | None:
    """Return the tokens that pass through the model, or None where nothing tells how long the data are.

    Args:
        spec: what is trained on; a named set or a local file of lines has a known size.
        max_length: tokens per row at most.
        epochs: passes over the rows, where ``max_steps`` is None.
        max_steps: optimiser steps.
        train_batch_size: rows per step.
    """
    size = _rows(spec.data)
    per_row = min(max_length, size[1]) if size else max_length
    if max_steps is not None:
        return float(max_steps * train_batch_size * per_row)
    if size is None:
        return None
    limit = spec.data_limit or (NAMED_SETS[spec.data].limit if spec.data in NAMED_SETS else None)
    rows = min(size[0], limit) if limit else size[0]
    return rows * (1 - spec.validation_fraction) * epochs * per_row


def _rows(data: str) -> tuple[float, float] | None:
    """Return rows and tokens per row of a named set or of a local file of lines."""
    if data in NAMED_SETS:
        return NAMED_SETS[data].rows, NAMED_SETS[data].row_tokens
    path = Path(data)
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    status = path.stat()
    return _lines(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _lines(path: Path, size: int, changed: int) -> tuple[int, float]:  # noqa: ARG001  (a file that changes is read again)
    """Return the lines of a file and their mean length in tokens."""
    with path.open("rb") as handle:
        count = sum(1 for _ in handle)
    return count, size / max(1, count) / _BYTES_PER_TOKEN
