"""The outcome of a judging."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overtrain_tasks.alpaca_eval import SATURATED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from overtrain.results.judged import JudgedCell

__all__ = ["JudgingSummary"]


@dataclass
class JudgingSummary:
    """How the judging ended.

    Attributes:
        file: ``scores.json``.
        cells: how many are scored now, references excluded.
        questions: how many they take: pairs of different answers, times orders.
        asked: how many questions the judge was asked now; the others had a preference.
        missing: items without a preference, over all scored cells.
        waiting: labels of cells that have no answers yet.
        saturated: labels of cells whose win rate lies outside `SATURATED`.
    """

    file: Path
    cells: int = 0
    questions: int = 0
    asked: int = 0
    missing: int = 0
    waiting: list[str] = field(default_factory=list)
    saturated: list[str] = field(default_factory=list)

    def add(self, label: str, cell: JudgedCell) -> None:
        """Count a scored cell."""
        self.cells += 1
        self.missing += cell.missing
        win_rate = cell.rows[0].value
        if win_rate is not None and not SATURATED[0] <= win_rate <= SATURATED[1]:
            self.saturated.append(f"{label}: {win_rate:.1f}%")

    def sentences(self) -> list[str]:
        """Return the outcome as lines of text, the most important line last."""
        lines = []
        if self.waiting:
            lines.append(
                f"{len(self.waiting)} cells have no answers yet ({_some(self.waiting)}); run the study, then judge again"
            )
        if self.saturated:
            lines.append(
                f"the win rates of {len(self.saturated)} cells lie outside {SATURATED[0]:g}-{SATURATED[1]:g}% "
                f"({_some(self.saturated)}): differences between checkpoints are squeezed there; choose a nearer reference"
            )
        counts = f"{self.asked} of {self.questions} questions asked now, {self.missing} items missing"
        return [*lines, f"{self.cells} cells scored; {counts}; {self.file}"]


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
