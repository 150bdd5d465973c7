"""Progress of a sweep: a bar with the remaining time on a terminal, otherwise one line per cell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

__all__ = ["SweepProgress", "duration"]


class SweepProgress:
    """Shows the trained tokens of ladders, then the finished cells.

    Args:
        console: the output; a bar if it is a terminal, otherwise lines.
        cells: number of cells to evaluate.
        tokens: number of tokens to pre-train on.
    """

    def __init__(self, console: Console, cells: int, tokens: int = 0) -> None:
        self._console, self._cells, self._tokens = console, cells, tokens
        self._done = self._trained = 0
        self._started: float | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("pre-training" if tokens else "cells", total=tokens or cells or 1, left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text)

    def trained(self, tokens: int) -> None:
        """Count ``tokens`` more that a ladder was trained on."""
        self._trained += tokens
        self._bar.update(self._task, completed=self._trained, left=f"tokens of {self._tokens:,}")

    def begin_cells(self) -> None:
        """Start counting cells."""
        self._started = time.monotonic()
        self._bar.update(self._task, description="cells", total=self._cells or 1, completed=self._done, left="")

    def ended(self, status: str, label: str) -> None:
        """Count a cell that has ended."""
        self._done += 1
        self._bar.update(self._task, completed=self._done, left=self._left())
        if status in {"diverged", "failed"} or not self._console.is_terminal:
            self._console.print(f"[{self._done}/{self._cells}] {status}  {label}  {self._left()}".rstrip())

    def _left(self) -> str:
        if self._started is None or self._done >= self._cells:
            return ""
        each = (time.monotonic() - self._started) / self._done
        return f"about {duration(each * (self._cells - self._done))} left"


def duration(seconds: float) -> str:
    """Return a time as text.

    >>> duration(42), duration(150), duration(7_300), duration(200_000)
    ('42 s', '2 min', '2.0 h', '2.3 days')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds // 60:.0f} min"
    if seconds < 129_600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"
