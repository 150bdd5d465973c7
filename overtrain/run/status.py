"""The progress of a study, read from its folder alone, for the live table."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from overtrain.common.progress import duration
from overtrain.common.reasons import grouped, last_line
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.results.record import StudyRecord
from overtrain.results.store import Store
from overtrain.results.study_file import read_study
from overtrain.run.ladders import missing_runs
from overtrain.study.study import Study

if TYPE_CHECKING:
    from rich.table import Table

    from overtrain.plan.cells import Cell
    from overtrain.results.record import CellRecord
    from overtrain.results.store import CellState

__all__ = ["CellNote", "StudyStatus", "VariantStatus", "status", "status_table"]

_COUNTS = ("done", "diverged", "failed", "running", "missing")


@dataclass
class VariantStatus:
    """Counts of one variant's cells; ``seconds`` is the total time of the finished cells."""

    variant: str
    done: int = 0
    diverged: int = 0
    failed: int = 0
    running: int = 0
    missing: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All cells of the variant."""
        return self.done + self.diverged + self.failed + self.running + self.missing


class CellNote(NamedTuple):
    """A cell's label and a note about it."""

    label: str
    text: str


@dataclass
class StudyStatus:
    """The progress of a study.

    Attributes:
        study: its name.
        root: its folder.
        variants: counts per variant, in the study's order.
        running: key of every cell that some process holds -> its label and its log.
        diverged: key of the cell -> its label and what was not finite.
        failed: key of the cell -> its label and the last line of the error.
        problems: why cells cannot be evaluated: message -> how many.
        to_pretrain: runs of ladders that are not there.
        remaining: estimated seconds until every cell is done, at the pace so far; None if nothing tells.
    """

    study: str
    root: Path
    variants: list[VariantStatus]
    running: dict[str, CellNote] = field(default_factory=dict)
    diverged: dict[str, CellNote] = field(default_factory=dict)
    failed: dict[str, CellNote] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    to_pretrain: int = 0
    remaining: float | None = None

    def count(self, what: str) -> int:
        """Return the cells that are ``done``, ``diverged``, ``failed``, ``running`` or ``missing``."""
        return sum(getattr(v, what) for v in self.variants)


def status(study: Study | str | Path, runs_dir: str | Path = "runs") -> StudyStatus:
    """Return the progress of ``study``. It reads only small files, and does not disturb a running sweep.

    Raises:
        ConfigError: the study is wrong.
        StoreError: its folder is damaged.
    """
    known = study if isinstance(study, Study) else load_study(study)
    root = Path(runs_dir) / known.name
    store = Store(root)
    before = read_study(root) or StudyRecord(name=known.name)
    records = {record.key: record for record in before.cells}
    cells = [cell for cell in expand(known) if cell.key not in before.same]
    found = StudyStatus(known.name, root, [VariantStatus(n) for n in dict.fromkeys(c.variant for c in cells)])
    by_name = {v.variant: v for v in found.variants}
    for cell in cells:
        _note(found, by_name[cell.variant], cell, records.get(cell.key), store)
    found.to_pretrain = len(missing_runs(known.points, Path(runs_dir)))
    found.remaining = _remaining(found)
    return found


def _note(found: StudyStatus, row: VariantStatus, cell: Cell, record: CellRecord | None, store: Store) -> None:
    """Count one cell."""
    if record is None or record.cell_id is None:
        row.missing += 1
        problem = None if record is None else record.problem
        if problem:
            found.problems[problem] = found.problems.get(problem, 0) + 1
        return
    state: CellState = store.state(record.cell_id)
    if state.status in {"done", "diverged", "failed"}:
        setattr(row, state.status, getattr(row, state.status) + 1)
        row.seconds += state.seconds if state.status == "done" else 0.0
        if state.status == "diverged":
            found.diverged[cell.key] = CellNote(cell.label, state.reason)
        if state.status == "failed":
            found.failed[cell.key] = CellNote(cell.label, last_line(state.reason))
    elif store.claimed(record.cell_id):
        row.running += 1
        found.running[cell.key] = CellNote(cell.label, str(store.log(record.cell_id)))
    else:
        row.missing += 1


def _remaining(found: StudyStatus) -> float | None:
    """Return the seconds that the rest will take: mean time of the same variant, else of all, over what runs at once."""
    done = found.count("done")
    if not done:
        return None
    overall = sum(v.seconds for v in found.variants) / done
    work = sum((v.missing + v.running / 2) * (v.seconds / v.done if v.done else overall) for v in found.variants)
    return work / max(1, found.count("running"))


def status_table(found: StudyStatus) -> Table:
    """Return the status as a table for a terminal, with the remaining time in its caption."""
    from rich.table import Table

    table = Table(title=f"{found.study}  {time.strftime('%H:%M:%S')}", caption=_caption(found))
    table.add_column("variant")
    for name in ("cells", *_COUNTS):
        table.add_column(name, justify="right")
    for v in found.variants:
        table.add_row(v.variant, str(v.total), *(str(getattr(v, name)) for name in _COUNTS))
    table.add_section()
    table.add_row("all", str(sum(v.total for v in found.variants)), *(str(found.count(n)) for n in _COUNTS))
    return table


def _caption(found: StudyStatus) -> str:
    lines = [f"{found.to_pretrain} runs of the ladder still to pre-train"] if found.to_pretrain else []
    lines += grouped("diverged", found.diverged.values())[:5] + grouped("failed", found.failed.values())[:5]
    lines += [
        f"{count} cell{'s' * (count > 1)} cannot be evaluated: {text}"
        for text, count in list(found.problems.items())[:5]
    ]
    if found.remaining is not None and (found.count("missing") or found.count("running")):
        lines.append(
            f"about {duration(found.remaining)} left at the pace of {max(1, found.count('running'))} at a time"
        )
    return "\n".join(lines)
