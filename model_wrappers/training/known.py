"""What can be known of training rows before a model is there: whether they can be read, how many they are at most."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.errors import OvertrainError
from model_wrappers.mirror import mirror_root
from model_wrappers.training.data import held_out, load_examples
from model_wrappers.training.named import NAMED_SETS
from model_wrappers.training.rows import local_source

if TYPE_CHECKING:
    from model_wrappers.training.data import DataSpec

__all__ = ["fits_one_batch", "rows_at_most", "rows_problem"]


def rows_problem(spec: DataSpec) -> str:
    """Return what is wrong with rows that lie on this machine, an empty text if nothing is; rows on the hub are not read.

    A chat template needs the checkpoint's tokenizer: here such rows are read by their format's own template.
    """
    return _read(_without_chat(spec), _stamp(spec.data))[0]


def rows_at_most(spec: DataSpec) -> int | None:
    """Return an upper bound of the rows to train on, exact for rows on this machine; None where nothing tells."""
    problem, count = _read(_without_chat(spec), _stamp(spec.data))
    if count is not None and not problem:
        return count
    limits = [spec.data_limit, NAMED_SETS[spec.data].limit if spec.data in NAMED_SETS and not spec.data_limit else None]
    found = [limit for limit in limits if limit is not None]
    return min(found) - held_out(min(found), spec.validation_fraction) if found else None


def fits_one_batch(spec: DataSpec, batch: int) -> bool:
    """Say whether every step of a training takes all rows, so that their order cannot matter.

    Of a large local file no more rows are read than can fit; of rows on the hub a ``data_limit`` alone tells.

    Args:
        spec: which rows.
        batch: rows per optimiser step.
    """
    limit = spec.data_limit or (NAMED_SETS[spec.data].limit if spec.data in NAMED_SETS else None)
    if limit is not None and limit - held_out(limit, spec.validation_fraction) <= batch:
        return True
    return _is_small(spec, batch, _stamp(spec.data))


def _without_chat(spec: DataSpec) -> DataSpec:
    return replace(spec, template="auto") if spec.template == "chat" else spec


@functools.lru_cache(maxsize=64)
def _read(spec: DataSpec, stamp: object) -> tuple[str, int | None]:  # noqa: ARG001  (files that change are read again)
    """Return what is wrong with local rows, and how many there are to train on."""
    try:
        if local_source(spec.data, spec.data_split, spec.data_config) is None:
            return "", None
        return "", len(load_examples(spec).train)
    except OvertrainError as error:
        return str(error), None


@functools.lru_cache(maxsize=256)
def _is_small(spec: DataSpec, batch: int, stamp: object) -> bool:  # noqa: ARG001
    try:
        source = local_source(spec.data, spec.data_split, spec.data_config)
        if source is None:
            return False
        count = 0
        for _ in source.rows():
            count += 1
            if count - held_out(count, spec.validation_fraction) > batch:
                return False
    except OvertrainError:  # said elsewhere
        return False
    return count > 0


def _stamp(data: str) -> object:
    """Return what changes with the files that ``data`` names on this machine."""
    try:
        path = Path(data).expanduser()
        if path.is_dir():
            return tuple(sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in path.iterdir()))
        status = path.stat()
    except (OSError, ValueError, RuntimeError):
        return str(mirror_root())
    return status.st_size, status.st_mtime_ns
