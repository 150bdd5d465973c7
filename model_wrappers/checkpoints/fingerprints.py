"""sha256 of local files. It is computed once, and stored with the file's absolute path, size and modification time."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sample_of", "sha256_of"]

_BLOCKS, _BLOCK = 9, 2**16

logger = logging.getLogger(__name__)


def sha256_of(path: Path, memory: Path) -> str:
    """Return the sha256 of ``path`` as hex.

    Args:
        path: the file.
        memory: the JSON file with earlier hashes. It is made if it is missing, and made again if it is damaged. Any number
            of processes can share it. If it cannot be written, nothing is stored.
    """
    path = path.absolute()
    before = _state(path)
    known = recall(memory).get(str(path))
    if isinstance(known, dict) and known | before == known and _is_sha(known.get("sha256")):
        return str(known["sha256"])
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if _state(path) == before:  # the hash of a file that is still being written is not stored
        remember(memory, str(path), before | {"sha256": found})
    return found


def sample_of(path: Path) -> str:
    """Return a sha256 of a file's size and of a few blocks of it: files with another sample are other files."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        for part in range(_BLOCKS):
            handle.seek(max(0, size - _BLOCK) * part // (_BLOCKS - 1))
            found.update(handle.read(_BLOCK))
    return found.hexdigest()


def _state(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _is_sha(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def recall(memory: Path) -> dict[str, Any]:
    """Return the contents of a file that `remember` wrote; empty if it is missing or damaged."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(memory: Path, key: str, entry: dict[str, Any]) -> None:
    """Add an entry to a JSON file that several processes share. If the file cannot be written, only a warning is logged."""
    from filelock import FileLock

    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{memory}.lock"):  # two processes that add entries at once must not lose one
            write_whole(memory, json.dumps(recall(memory) | {key: entry}, indent=1, sort_keys=True))
    except (OSError, StoreError) as error:
        logger.warning("%s cannot be written (%s): weight files will be hashed again next time", memory, error)
