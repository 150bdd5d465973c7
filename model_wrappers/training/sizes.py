"""Estimates the tokens of a training, for the cost of a study before it runs. No result depends on these numbers."""

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
    """Return the tokens that pass through the model, or None if the size of the data is unknown.

    Args:
        spec: the training data. The size of a named set or a local ``.jsonl`` file is known.
        max_length: largest number of tokens per row.
        epochs: passes over the rows; ignored if ``max_steps`` is given.
        max_steps: optimiser steps, or None.
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
    """Return (rows, tokens per row) of a named set or a local ``.jsonl`` file; None for other data."""
    if data in NAMED_SETS:
        return NAMED_SETS[data].rows, NAMED_SETS[data].row_tokens
    path = Path(data)
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    status = path.stat()
    return _lines(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _lines(path: Path, size: int, changed: int) -> tuple[int, float]:  # noqa: ARG001  (a file that changes is read again)
    """Return the number of lines of a file, and their mean length in tokens."""
    with path.open("rb") as handle:
        count = sum(1 for _ in handle)
    return count, size / max(1, count) / _BYTES_PER_TOKEN
