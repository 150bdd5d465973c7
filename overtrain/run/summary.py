"""How a sweep ended, from the plan and the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overtrain.common.reasons import grouped, last_line
from overtrain.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from overtrain.plan.cells import Cell
    from overtrain.plan.jobs import Plan
    from overtrain.study.study import Study

__all__ = ["Summary", "summarise"]


@dataclass
class Summary:
    """How a sweep ended.

    Attributes:
        study: its name.
        root: its folder.
        cells: how many the sweep was about.
        done: how many of them have a result now.
        ran: how many of those this sweep evaluated.
        diverged: labels of those whose weights or scores are not finite, with what was not.
        failed: labels of those that failed, with the last line of the error.
        reasons: ``diverged`` and ``failed`` -> label and reason of every such cell.
        missing: labels of those without a result, in a dry run what would be evaluated.
        refused: finished cells that are not what they were.
        problems: why cells cannot be evaluated: message -> how many.
        pretrained: runs of ladders that are missing (in a dry run) or were pre-trained.
        seconds: that it took.
        dry_run: whether anything was run at all.
    """

    study: str
    root: Path
    cells: int
    done: int = 0
    ran: int = 0
    diverged: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reasons: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {"diverged": [], "failed": []})
    missing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problems: dict[str, int] = field(default_factory=dict)
    pretrained: int = 0
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether every cell has a result; a diverged cell counts as one."""
        return self.done + len(self.diverged) == self.cells

    def sentences(self) -> list[str]:
        """Return the summary as lines of text, the most important line last."""
        lines = [f"refused: {text}" for text in self.refused]
        lines += [
            f"{count} cell{'s' * (count > 1)} cannot be evaluated: {text}" for text, count in self.problems.items()
        ]
        lines += grouped("diverged", self.reasons["diverged"]) + grouped("failed", self.reasons["failed"])
        if self.dry_run:
            lines += [f"would run: {label}" for label in self.missing]
            ladder = f"{self.pretrained} runs to pre-train, " if self.pretrained else ""
            return [
                *lines,
                f"{self.study}: {ladder}{len(self.missing)} of {self.cells} cells to evaluate, {self.done} done",
            ]
        if self.failed:
            lines.append("failed cells keep their traceback in status.json; --retry-failed runs them again")
        diverged = f", {len(self.diverged)} diverged" if self.diverged else ""
        return [
            *lines,
            f"{self.study}: {self.done} of {self.cells} cells done{diverged}, {len(self.failed)} failed, in {self.root}",
        ]


def summarise(study: Study, chosen: Sequence[Cell], plan: Plan, root: Path) -> Summary:
    """Return what the store says of the ``chosen`` cells; cells that another cell stands for are not counted."""
    store = Store(root)
    jobs = {job.cell.key: job for job in plan.jobs}
    same = [cell for cell in chosen if cell.key not in jobs and cell.key not in plan.problems]
    summary = Summary(study=study.name, root=root, cells=len(chosen) - len(same))
    for cell in chosen:
        job = jobs.get(cell.key)
        if job is None:
            if cell.key in plan.problems:
                message = plan.problems[cell.key]
                summary.problems[message] = summary.problems.get(message, 0) + 1
            continue
        state = store.state(job.cell_id)
        if state.status == "done":
            summary.done += 1
        elif state.status in {"diverged", "failed"}:
            reason = last_line(state.reason)
            summary.reasons[state.status].append((cell.label, reason))
            (summary.failed if state.status == "failed" else summary.diverged).append(f"{cell.label}: {reason}")
        else:
            summary.missing.append(cell.label)
    return summary
