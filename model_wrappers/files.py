"""Writes files and folders that are either complete or absent, with one clear message when the disk refuses.

Everything that this project keeps (weights, results, reports, stored hashes) is written here: first under a temporary name in
the same folder, then forced to the disk, then renamed. A killed process leaves at most a temporary file behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from typing import TYPE_CHECKING

from model_wrappers.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["exists", "flush_folder", "flush_name", "whole_folder", "write_flushed", "write_whole", "writing"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


def exists(path: Path) -> bool:
    """Say whether there is such a file or folder; a name that no file system takes is none."""
    try:
        return path.expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file (text as UTF-8) under a temporary name, and rename it when it is on the disk. Missing folders are made.

    Raises:
        StoreError: the file cannot be written; an earlier file of this name stays unchanged.
    """
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_flushed(fresh, content.encode() if isinstance(content, str) else content)
            fresh.replace(path)
            flush_name(path.parent)
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder to fill. It is renamed to ``final`` when the block ends, and removed if the block raises.

    Temporary folders of killed processes are removed first. If another process has written ``final`` in the meantime, from
    the same inputs, that folder stays.

    Raises:
        OSError: the folder cannot be written; use this inside `writing` for a clear message.
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
        flush_folder(fresh)
        if not final.exists():
            fresh.rename(final)
            flush_name(final.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextlib.contextmanager
def writing(folder: Path, *, elsewhere: str = "give another folder with --runs") -> Iterator[None]:
    """Turn a full disk, a quota or a missing permission inside the block into one clear `StoreError`.

    Args:
        folder: where the block writes.
        elsewhere: the remedy for the message: how to choose another folder.

    Raises:
        StoreError: the disk is full, or the folder cannot be written. Other exceptions pass unchanged.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        text = str(error)  # safetensors raises its own error class, with the system's text inside
        if number in _FULL or any(os.strerror(n) in text for n in _FULL):
            raise StoreError(
                f"cannot write under {folder}: {text}; free space there or {elsewhere}, then run the same command again "
                "(what is finished is kept, nothing half-written is)"
            ) from error
        if isinstance(error, OSError) and (number in _FORBIDDEN or not folder.is_dir()):
            raise StoreError(f"cannot write under {folder}: {text}; {elsewhere}") from error
        raise


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file in place and force it to the disk; for files inside a folder that is renamed when it is complete."""
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def flush_folder(folder: Path) -> None:
    """Force every file of ``folder`` to the disk. After a crash, a renamed folder then always has its contents."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    flush_name(folder)


def flush_name(folder: Path) -> None:
    """Force a rename inside ``folder`` to the disk, if the system can do that for folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse
            os.fsync(handle)
    finally:
        os.close(handle)


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
