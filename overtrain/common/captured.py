"""Sends the output of each cell to its own file, so that the progress of a sweep stays readable."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from model_wrappers.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["captured", "tail"]

_KEPT = 100_000


class _Switch(io.TextIOBase):
    """Replaces a standard stream, and forwards to the current file. Loggers keep this object, so they follow the switch."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.target: IO[str] | None = None

    def _stream(self) -> IO[str]:
        if self.target is not None:
            return self.target
        current = getattr(sys, self._name)
        return current if current is not self else getattr(sys, f"__{self._name}__")

    def write(self, text: str) -> int:
        """Write to the file of the running cell, or to the standard stream if no cell runs."""
        return self._stream().write(text)

    def flush(self) -> None:
        """Flush the stream that `write` writes to."""
        stream = self._stream()
        if not stream.closed:
            stream.flush()

    def writable(self) -> bool:
        """Return True, because this is an output stream."""
        return True


_OUT, _ERR = _Switch("stdout"), _Switch("stderr")


@contextmanager
def captured(file: Path) -> Iterator[None]:
    """Send this process's standard output and error, progress bars included, to ``file`` inside the block.

    Raises:
        StoreError: the file cannot be written.
    """
    with writing(file.parent):
        log = file.open("w", encoding="utf-8", errors="replace", buffering=1)
    before = sys.stdout, sys.stderr
    try:
        _OUT.target = _ERR.target = log
        sys.stdout, sys.stderr = _OUT, _ERR
        yield
    finally:
        sys.stdout, sys.stderr = before
        _OUT.target = _ERR.target = None
        log.close()


def tail(file: Path) -> bytes:
    """Return the end of a log. Of a line that was overwritten several times (a progress bar), only the last text is kept."""
    try:
        text = file.read_bytes().decode("utf-8", "replace")
    except OSError:
        return b""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(lines).encode()[-_KEPT:]
