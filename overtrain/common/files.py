"""Folders that are either whole or not there."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["whole_file", "whole_folder"]


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Give an empty folder beside ``final`` to fill; it takes that name when the block ends, or goes if it raises.

    What a killed process left under its temporary name is removed first. If ``final`` appeared meanwhile, written by
    another process from the same inputs, that one stays.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in final.parent.glob(f".{final.name}.*.tmp"):
        if not _alive(abandoned.name.split(".")[-2]):
            shutil.rmtree(abandoned, ignore_errors=True)
    fresh = final.parent / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        _flush(fresh)
        if not final.exists():
            fresh.rename(final)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def whole_file(path: Path, content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8) under another name and rename it when it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with fresh.open("wb") as handle:
            handle.write(content.encode() if isinstance(content, str) else content)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
