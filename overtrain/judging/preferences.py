"""Preferences on disk: SQLite, under a hash of everything that decides them.

Any number of processes may share one file. A preference is written at the latest half a second after it was given, so a
killed process loses no more than that. Only preferences are stored; a question that failed is asked again next time. The
file and its table are called ``verdicts``, as in earlier versions.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from model_wrappers.errors import StoreError
from model_wrappers.identity import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["Preference", "PreferenceStore", "preference_key"]

_SECONDS = 0.4  # between commits
_BUSY_SECONDS = 60.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS verdicts "
    "(key BLOB PRIMARY KEY, first REAL NOT NULL, one_token INTEGER NOT NULL, samples INTEGER) WITHOUT ROWID"
)
_ADDED = "ALTER TABLE verdicts ADD COLUMN samples INTEGER"
"""For files of versions that knew no samples."""


class Preference(NamedTuple):
    """The judge's preference for one pair in one order.

    Attributes:
        first: probability, 0 to 1, that the answer shown first is the better one.
        one_token: whether the judge gave a log-probability for only one of the two names.
        samples: how many samples ``first`` is the share of; None where it comes from log-probabilities.
    """

    first: float
    one_token: bool = False
    samples: int | None = None


def preference_key(what: Any) -> bytes:
    """Return the sha256 of ``what`` as canonical JSON; ``what`` must name everything that decides the preference."""
    return hashlib.sha256(canonical(what).encode()).digest()


class PreferenceStore:
    """A file of preferences; use it in a ``with`` block.

    Args:
        path: of the file, made where there is none.

    Raises:
        StoreError: it cannot be opened or is no such file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: dict[bytes, Preference] = {}
        self._failure: StoreError | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
            try:
                self._make_table()
            except sqlite3.Error:
                self._database.close()
                raise
        self._writer = threading.Thread(target=self._write_often, name="preferences", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: bytes) -> Preference | None:
        """Return the preference under ``key``, from this or another process; None if there is none.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock, self._explained():
            if key in self._pending:
                return self._pending[key]
            row = self._database.execute(
                "SELECT first, one_token, samples FROM verdicts WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else Preference(row[0], bool(row[1]), row[2])

    def put(self, key: bytes, preference: Preference) -> None:
        """Store a preference; an existing preference is not replaced.

        Raises:
            StoreError: what came before could not be written.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._pending[key] = preference

    def flush(self) -> None:
        """Write everything now.

        Raises:
            StoreError: the disk is full or the file cannot be written.
        """
        with self._lock, self._explained():
            if not self._pending:
                return
            rows = [(key, p.first, int(p.one_token), p.samples) for key, p in self._pending.items()]
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?)", rows)
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise
            self._pending.clear()

    def close(self) -> None:
        """Write everything and close the file.

        Raises:
            StoreError: it cannot be written.
        """
        self._ended.set()
        self._writer.join()
        try:
            self.flush()
        finally:
            self._database.close()

    def _make_table(self) -> None:
        """Make the table, or add the column that an earlier version did not have; another process may do the same now."""
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute(_TABLE)
        columns = {row[1] for row in self._database.execute("PRAGMA table_info(verdicts)")}
        if "samples" not in columns:
            self._database.execute(_ADDED)
        self._database.execute("COMMIT")

    def _write_often(self) -> None:
        while not self._ended.wait(_SECONDS):
            try:
                self.flush()
            except StoreError as error:
                with self._lock:
                    self._failure = error
                return

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of SQLite and the system into one clear `StoreError`."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the preferences in {self._path} cannot be read or written ({error}); free space, make the folder writable "
                "or, if the file is damaged, delete it (its pairs are then judged again)"
            ) from error
