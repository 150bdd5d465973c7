"""Progress of a judge: a bar with the remaining time on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from overtrain.common.progress import duration

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

__all__ = ["JudgeProgress"]

_LINE_SECONDS = 30.0


class JudgeProgress:
    """Counts questions to a judge.

    Args:
        console: where to; a bar if it is a terminal, lines if not; default standard error.
        total: questions, those that need no asking included.
    """

    def __init__(self, console: Console | None, total: int) -> None:
        if console is None:
            from rich.console import Console as _Console

            console = _Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._console, self._total = console, total
        self._known = self._answered = self._failed = 0
        self._started = self._shown = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("questions", total=total, left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        self._bar.stop()
        if not self._console.is_terminal:
            self._console.print(self._line())

    @property
    def settled(self) -> int:
        """How many questions have a preference, or need none."""
        return self._known + self._answered - self._failed

    def known(self) -> None:
        """Count a question that does not have to be asked."""
        self._known += 1

    def answered(self, *, failed: bool) -> None:
        """Count a question that was asked."""
        self._answered += 1
        self._failed += failed
        now = time.monotonic()
        if self._console.is_terminal:
            if now - self._shown > 0.1:
                self._shown = now
                self._show()
        elif now - self._shown > _LINE_SECONDS:
            self._shown = now
            self._console.print(self._line())

    def _show(self) -> None:
        self._bar.update(self._task, completed=self._known + self._answered, left=self._left())

    def _line(self) -> str:
        done = self._known + self._answered
        failed = f", {self._failed} without a preference" if self._failed else ""
        left = self._left()
        return f"[{done}/{self._total}] {self._answered} asked{failed}{'; ' + left if left else ''}"

    def _left(self) -> str:
        left = self._total - self._known - self._answered
        if left <= 0 or not self._answered:
            return ""
        each = (time.monotonic() - self._started) / self._answered
        return f"about {duration(each * left)} left"
