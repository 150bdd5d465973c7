"""Tuned weights on disk, one folder per ``weights_id``. One process writes a folder, and every process can read it.

An entry is an ordinary Hugging Face folder (config, tokenizer, safetensors) with ``overtrain_weights.json`` beside the
weights. It is written under a temporary name and renamed when it is complete, so a folder with an id as its name is always
complete. Before weights are loaded, the hash of every file is checked. A damaged entry is renamed, named in the log, and made
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from model_wrappers.files import flush_folder, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

__all__ = ["ELSEWHERE", "Entry", "WeightsCache", "cache_root"]

META = "overtrain_weights.json"

_LEFT = ("tmp", "work", "damaged")
"""Endings of the folders that killed trainings and damaged entries leave behind."""

ELSEWHERE = (
    "set OVERTRAIN_CACHE to a folder of your own on a larger disk (`overtrain cache list`, `overtrain cache prune`)"
)
"""The remedy in error messages when the cache cannot be written."""


def cache_root() -> Path:
    """Return the folder for files that can be computed again: ``OVERTRAIN_CACHE``, else a folder in the user's cache."""
    given = os.environ.get("OVERTRAIN_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lm-eval-overtrain"


@dataclass(frozen=True)
class Entry:
    """One set of tuned weights: its id, its folder, and the record of how it was made."""

    weights_id: str
    path: Path

    @property
    def meta(self) -> dict[str, Any]:
        """The JSON data that ``build`` returned when the entry was made."""
        return dict(json.loads((self.path / META).read_text(encoding="utf-8")))

    def damage(self) -> str:
        """Return the problem of the first damaged file, or an empty text if all files are intact. Reads all files."""
        try:
            written = self.meta.get("files") or {}
        except (OSError, ValueError):
            return f"{META} cannot be read"
        for name, sha256 in written.items():
            try:
                with (self.path / name).open("rb") as handle:
                    found = hashlib.file_digest(handle, "sha256").hexdigest()
            except OSError as error:
                return f"{name} cannot be read ({error.strerror or error})"
            if found != sha256:
                return f"{name} is not what was written"
        return ""

    @property
    def size(self) -> int:
        """Size on disk in bytes."""
        return sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file())

    @property
    def used(self) -> float:
        """Time of the last use, in seconds since the epoch."""
        return (self.path / META).stat().st_mtime


class WeightsCache:
    """The folder of tuned weights; by default ``weights/`` under ``OVERTRAIN_CACHE``."""

    def __init__(self, root: Path | None = None) -> None:
        if root is None:
            root = cache_root() / "weights"
        self.root = root

    def get(self, weights_id: str) -> Entry | None:
        """Return the entry if it exists, and record the time of this use. File hashes are not checked."""
        path = self.root / weights_id
        if not (path / META).is_file():
            return None
        with contextlib.suppress(OSError):  # the time cannot be recorded in somebody else's cache
            os.utime(path / META)
        return Entry(weights_id, path)

    def _sound(self, weights_id: str) -> Entry | None:
        """Return the entry if its files have the recorded hashes; None if there is no entry. A damaged entry is renamed.

        Raises:
            StoreError: the entry is damaged, and we may not rename it.
        """
        path = self.root / weights_id
        if not path.exists():
            return None
        found = self.get(weights_id)
        problem = found.damage() if found is not None else f"{META} is missing"
        if not problem:
            return found
        aside = self.root / f".{weights_id}.damaged"
        log.warning("%s is damaged (%s): it is set aside as %s and made again", path, problem, aside.name)
        try:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        except OSError as error:
            raise StoreError(
                f"{path} is damaged ({problem}) and cannot be set aside ({error.strerror}); remove it, or {ELSEWHERE}"
            ) from error
        return None

    def get_or_create(self, weights_id: str, build: Callable[[Path, Path], dict[str, Any]]) -> Entry:
        """Return the entry; if it does not exist, ``build`` makes it. If several processes ask at once, one of them builds.

        Args:
            weights_id: key of the entry.
            build: called with two folders on the cache's file system: an empty one for the weights, and a work folder that
                stays if the process is killed. Returns JSON data to keep with the weights.

        Raises:
            StoreError: the disk is full or the folder cannot be written; no incomplete entry is left.
        """
        with writing(self.root, elsewhere=ELSEWHERE):  # a root that is no folder says so here
            found = self._sound(weights_id)
        if found is not None:
            return found
        with self.lock(weights_id):
            found = self._sound(weights_id)
            return found if found is not None else self._create(weights_id, build)

    @contextlib.contextmanager
    def lock(self, weights_id: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of an id inside the block; the system releases it if the process dies.

        Yields True. With ``wait=False``, yields False if another process holds the lock.
        """
        from filelock import FileLock, Timeout

        with writing(self.root, elsewhere=ELSEWHERE):
            self.root.mkdir(parents=True, exist_ok=True)
        held = FileLock(self.root / f".{weights_id}.lock")
        try:
            with writing(self.root, elsewhere=ELSEWHERE):
                held.acquire(blocking=wait)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            held.release()

    def _create(self, weights_id: str, build: Callable[[Path, Path], dict[str, Any]]) -> Entry:
        work = self.root / f".{weights_id}.work"
        fresh = self.root / f".{weights_id}.tmp"
        shutil.rmtree(fresh, ignore_errors=True)  # we hold the lock, so the process that wrote this folder was killed
        with writing(self.root, elsewhere=ELSEWHERE):
            fresh.mkdir()
            work.mkdir(exist_ok=True)
            try:
                meta = build(fresh, work) | {"files": _hashes(fresh)}
                (fresh / META).write_text(json.dumps(meta, indent=2, ensure_ascii=False), encoding="utf-8")
                flush_folder(fresh)
                fresh.rename(self.root / weights_id)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
        shutil.rmtree(work, ignore_errors=True)
        return Entry(weights_id, self.root / weights_id)

    def entries(self) -> list[Entry]:
        """Return every complete entry, the least recently used first."""
        if not self.root.is_dir():
            return []
        whole = [Entry(p.name, p) for p in self.root.iterdir() if not p.name.startswith(".") and (p / META).is_file()]
        return sorted(whole, key=lambda e: e.used)

    def prune(self, *, max_bytes: int = 0, older_than_days: float = 0.0) -> list[Entry]:
        """Remove the least recently used entries until the rest fits in ``max_bytes``; return the removed entries.

        Entries that were used within the last ``older_than_days`` stay, whatever the size. Damaged entries and work folders of
        killed trainings are removed too. Work folders of running trainings stay.
        """
        entries = self.entries()
        total = sum(e.size for e in entries)
        removed = []
        for entry in entries:
            if total <= max_bytes or time.time() - entry.used < older_than_days * 86400:
                continue
            with self.lock(entry.weights_id, wait=False) as free:
                if free:
                    total -= entry.size
                    shutil.rmtree(entry.path)
                    removed.append(entry)
        for left in [p for kind in _LEFT for p in self.root.glob(f".*.{kind}")] if self.root.is_dir() else []:
            if time.time() - left.stat().st_mtime >= older_than_days * 86400:
                with self.lock(left.name[1:].rpartition(".")[0], wait=False) as free:
                    if free:
                        shutil.rmtree(left, ignore_errors=True)
        return removed


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        with file.open("rb") as handle:
            found[file.relative_to(folder).as_posix()] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found
