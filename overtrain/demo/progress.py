"""One progress bar with the remaining time over stages of very different length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

__all__ = ["DemoProgress"]

# Rough seconds of one core, so that the bar moves evenly; the remaining time is measured, not computed from these.
_SECONDS_PER_TOKEN = 1 / 130_000
_SECONDS_PER_CELL = 1.0


class DemoProgress:
    """Counts tokens and cells and shows them as a bar; where the console is no terminal there is none."""

    def __init__(self, tokens: int, cells: int, console: Console) -> None:
        """Prepare for ``tokens`` still to train on and ``cells`` still to evaluate."""
        self._totals = (tokens, cells)
        self._tokens = 0
        self._cells = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        total = tokens * _SECONDS_PER_TOKEN + cells * _SECONDS_PER_CELL
        self._task = self._bar.add_task("starting", total=total or 1.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def trained(self, tokens: int) -> None:
        """Note that ``tokens`` more were trained on."""
        self._tokens += tokens
        self._bar.advance(self._task, tokens * _SECONDS_PER_TOKEN)
        self._describe()

    def evaluated(self) -> None:
        """Note that one more cell is there."""
        self._cells += 1
        self._bar.advance(self._task, _SECONDS_PER_CELL)
        self._describe()

    def _describe(self) -> None:
        tokens, cells = self._totals
        self._bar.update(
            self._task,
            description=f"{self._tokens / 1e6:.1f}/{tokens / 1e6:.1f}M tokens, {self._cells}/{cells} cells",
        )
