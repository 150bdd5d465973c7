"""Results on disk: ``runs/<study>/<cell_id>/``, one folder per cell, whole or not there.

A cell is written under another name beside its place and renamed when it is on the disk. Any number of processes may work
in one folder: a cell is claimed by a lock that the system releases when its holder dies, however it dies. A folder counts
as a result only if its name is the hash of what its ``spec.json`` says was evaluated.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from model_wrappers.errors import StoreError
from model_wrappers.files import flush_name, write_flushed, writing
from model_wrappers.identity import digest
from overtrain.common.typed_json import from_json, to_json
from overtrain.results.record import FileRecord, StatusRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["FILES", "CellState", "Status", "Store"]

Status = Literal["done", "diverged", "failed", "cancelled", "missing"]

FILES = ("spec.json", "results.json", "metrics.json", "documents.parquet", "training_log.json", "environment.json")
"""What a finished cell holds, beside ``status.json``; ``samples_<task>.jsonl`` and ``log.txt`` may be there too."""


@dataclass(frozen=True)
class CellState:
    """The state of a cell in the store.

    Attributes:
        status: ``missing`` also for a folder that cannot be a result; ``reason`` then says why.
        seconds: that it took.
        finished: when, in seconds since the epoch.
        reason: the error of a failed cell, or why a folder does not count.
    """

    status: Status
    seconds: float = 0.0
    finished: float = 0.0
    reason: str = ""


class Store:
    """The folder of one study.

    >>> import tempfile, pathlib
    >>> store = Store(pathlib.Path(tempfile.mkdtemp()))
    >>> store.state("0" * 64).status
    'missing'
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._work = root / ".work"  # locks, and the logs of running cells

    def folder(self, cell_id: str) -> Path:
        """Return the folder of the cell's files."""
        return self.root / cell_id

    def log(self, cell_id: str) -> Path:
        """Return the log file of the cell while it runs."""
        return self._work / f"{cell_id}.log"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            StoreError: they cannot be made.
        """
        with writing(self.root):
            self._work.mkdir(parents=True, exist_ok=True)

    def state(self, cell_id: str) -> CellState:
        """Return the cell's state. This is fast for thousands of cells: sizes are compared, contents are not hashed."""
        folder = self.folder(cell_id)
        try:
            found = self._status(cell_id)
            reason = self._refusal(folder, found)
            if reason:
                return CellState("missing", reason=reason)
            return CellState(found.status, found.seconds, found.finished, found.error)
        except FileNotFoundError:
            return CellState("missing", reason="it has no status.json" if folder.is_dir() else "")
        except (OSError, ValueError, KeyError, TypeError) as error:
            return CellState("missing", reason=f"its files are damaged ({error!r})")

    def _status(self, cell_id: str) -> StatusRecord:
        """Return the contents of ``status.json``.

        Raises:
            OSError, ValueError: it is missing or damaged.
        """
        return from_json(StatusRecord, json.loads((self.folder(cell_id) / "status.json").read_bytes()))

    @staticmethod
    def _refusal(folder: Path, found: StatusRecord) -> str:
        """Return why a folder is not a result of the cell in its name; an empty text if it is."""
        for name, about in found.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != about.bytes:
                return f"{name} is missing or has another size than when it was written"
        if found.status == "done":
            absent = [name for name in FILES if name not in found.files]
            if absent:
                return f"it has no {absent[0]}"
        identity = json.loads((folder / "spec.json").read_bytes())["identity"]
        if digest(identity) != folder.name:
            return "its spec.json is that of another cell (another checkpoint, modification, task or version)"
        return ""

    def read(self, cell_id: str, name: str) -> bytes:
        """Return the contents of one of a cell's files, checked against what was written.

        Raises:
            StoreError: it is damaged.
        """
        folder = self.folder(cell_id)
        try:
            about = self._status(cell_id).files[name]
            content = (folder / name).read_bytes()
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(
                f"{folder / name} cannot be read ({error!r}); delete {folder} and run the study again"
            ) from error
        if hashlib.sha256(content).hexdigest() != about.sha256:
            raise StoreError(f"{folder / name} is not what was written; delete {folder} and run the study again")
        return content

    @contextmanager
    def claim(self, cell_id: str) -> Iterator[bool]:
        """Hold the cell for the block, or find that another process does: yields whether it is ours.

        What a killed holder left under a temporary name is removed.
        """
        from filelock import FileLock, Timeout

        self.prepare()
        lock = FileLock(self._work / f"{cell_id}.lock")
        try:
            with writing(self.root):
                lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            for left in self.root.glob(f".{cell_id}.*"):
                shutil.rmtree(left, ignore_errors=True)
            yield True
        finally:
            lock.release()

    def claimed(self, cell_id: str) -> bool:
        """Return whether a process holds the cell now."""
        if not (self._work / f"{cell_id}.lock").exists():
            return False
        with self.claim(cell_id) as ours:
            return not ours

    def write(
        self,
        cell_id: str,
        files: Mapping[str, bytes],
        status: Literal["done", "diverged", "failed", "cancelled"],
        *,
        started: float,
        error: str = "",
    ) -> None:
        """Write a complete cell and replace its earlier state. Call this while holding the claim.

        Args:
            cell_id: the digest of ``identity`` in ``spec.json``.
            files: name -> content; ``spec.json`` always, all of `FILES` for ``done``.
            status: how it ended.
            started: in seconds since the epoch.
            error: of a failed cell, the traceback included.

        Raises:
            StoreError: the disk is full or the folder cannot be written; nothing half-written stays.
        """
        fresh = self.root / f".{cell_id}.{uuid.uuid4().hex[:8]}"
        now = time.time()
        about = StatusRecord(
            status=status,
            started=started,
            finished=now,
            seconds=round(now - started, 3),
            host=socket.gethostname(),
            pid=os.getpid(),
            files={
                name: FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
                for name, content in files.items()
            },
            error=error,
        )
        with writing(self.root):
            try:
                fresh.mkdir(parents=True)
                for name, content in files.items():
                    write_flushed(fresh / name, content)
                write_flushed(fresh / "status.json", json.dumps(to_json(about), indent=1).encode())
                final = self.folder(cell_id)
                if final.exists():
                    final.rename(self.root / f".{cell_id}.old.{uuid.uuid4().hex[:8]}")
                fresh.rename(final)
                flush_name(self.root)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
                for old in self.root.glob(f".{cell_id}.old.*"):
                    shutil.rmtree(old, ignore_errors=True)
        self.log(cell_id).unlink(missing_ok=True)
