"""Runs a study: what is not finished, here or on a cluster.

One machine: this process, so that imports, tasks, requests and base weights are shared by all cells; with ``workers``
several of it, each of which works on what nobody else holds. Several processes, started by hand or by a scheduler, can do
the same on one folder.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.identity import digest
from overtrain.common.captured import captured
from overtrain.plan.cells import select_cells
from overtrain.plan.expand import expand
from overtrain.plan.planner import Planner
from overtrain.results.planned import refused, study_record
from overtrain.results.store import Store
from overtrain.results.study_file import read_study, write_study
from overtrain.run.cell import run_job
from overtrain.run.ladders import held_out, locate, missing_runs, pretrain_missing
from overtrain.study.load import load_study
from overtrain.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from overtrain.common.progress import SweepProgress
    from overtrain.plan.cells import Cell
    from overtrain.plan.jobs import Job, Plan
    from overtrain.study.study import Point

__all__ = ["Summary", "run"]

_POLL = 0.5


@dataclass
class Summary:
    """How a sweep ended.

    Attributes:
        study: its name.
        root: its folder.
        cells: how many the sweep was about.
        done: how many of them have a result now.
        ran: how many of those this sweep evaluated.
        failed: labels of those that failed, with the last line of the error.
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
    failed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problems: dict[str, int] = field(default_factory=dict)
    pretrained: int = 0
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether every cell has a result."""
        return self.done == self.cells

    def sentences(self) -> list[str]:
        """Return the summary for people, the most important line last."""
        lines = [f"refused: {text}" for text in self.refused]
        lines += [f"{count} cells cannot be evaluated: {text}" for text, count in self.problems.items()]
        lines += [f"failed: {text}" for text in self.failed]
        if self.dry_run:
            lines += [f"would run: {label}" for label in self.missing]
            ladder = f"{self.pretrained} runs to pre-train, " if self.pretrained else ""
            return [
                *lines,
                f"{self.study}: {ladder}{len(self.missing)} of {self.cells} cells to evaluate, {self.done} done",
            ]
        if self.failed:
            lines.append("failed cells keep their traceback in status.json; --retry-failed runs them again")
        return [
            *lines,
            f"{self.study}: {self.done} of {self.cells} cells done, {len(self.failed)} failed, in {self.root}",
        ]


def run(
    study: Study | str | Path,
    runs_dir: str | Path = "runs",
    *,
    dry_run: bool = False,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    ray: str | None = None,
    workers: int | None = None,
    console: Console | None = None,
) -> Summary:
    """Run the cells of ``study`` that have no result yet.

    Args:
        study: a study, a YAML file, or a preset's name.
        runs_dir: holds one folder per study.
        dry_run: say what would run; writes nothing and loads nothing.
        only: variants, checkpoints or patterns for labels; empty for all cells.
        retry_failed: run failed cells again.
        ray: ``local`` or the address of a Ray cluster (extra ``[cluster]``); every node must see ``runs_dir``.
        workers: processes on this machine; default one, this one. Ladders are pre-trained by one per CPU.
        console: for progress; default standard error.

    Raises:
        ConfigError: the study is wrong, or ``only`` names no cell.
        CheckpointError: two of its checkpoints are the same weights.
        DataError: evaluation rows are missing or malformed.
        StoreError: nothing can be written; what is done is kept.
        KeyboardInterrupt: as pressed; the cell that ran is stored as cancelled.
    """
    from rich.console import Console as _Console

    from overtrain.common.progress import SweepProgress

    started = time.monotonic()
    if not isinstance(study, Study):
        study = load_study(study)
    console = console or _Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    runs = Path(runs_dir)
    root = runs / study.name
    cells = expand(study)
    chosen = select_cells(cells, only)
    if dry_run:
        return _dry(study, cells, chosen, runs)
    points = _points(chosen)
    todo = missing_runs(points, runs)
    with SweepProgress(console, 0, sum(r.recipe.tokens(r.budget) for r in todo)) as progress:
        if todo:
            progress.say(f"{len(todo)} runs to pre-train ...")
            pretrain_missing(points, runs, workers=workers, progress=progress.trained)
    plan, messages = _plan(study, cells, runs)
    keys = {cell.key for cell in chosen}
    jobs = [job for job in plan.jobs if job.cell.key in keys]
    pending = _pending(jobs, Store(root), retry_failed=retry_failed)
    for text in messages:
        console.print(f"refused: {text}")
    with SweepProgress(console, len(pending)) as progress:
        progress.begin_cells()
        how = _on_ray if ray else _in_workers if (workers or 1) > 1 else _here
        ran = how(
            pending,
            study=study,
            jobs=plan.jobs,
            progress=progress,
            retry_failed=retry_failed,
            address=ray,
            workers=workers,
        )
    summary = _summary(study, chosen, plan, root)
    summary.ran, summary.refused, summary.pretrained = ran, messages, len(todo)
    summary.seconds = time.monotonic() - started
    return summary


def _plan(study: Study, cells: Sequence[Cell], runs: Path) -> tuple[Plan, list[str]]:
    """Identify every cell, write ``study.json``, and say which finished cells are not what they were."""
    root = runs / study.name
    store = Store(root)
    store.prepare()
    text = held_out(study.points, runs)
    located = locate(_points(cells), runs)
    with captured(root / ".work" / "plan.log"):
        plan = Planner(root, study.file, located, str(text) if text else None).plan(cells)
    messages = refused(read_study(root), plan, store)
    write_study(root, study_record(study, cells, plan))
    return plan, messages


def _dry(study: Study, cells: Sequence[Cell], chosen: Sequence[Cell], runs: Path) -> Summary:
    root = runs / study.name
    text = held_out(study.points, runs)
    planner = Planner(root, study.file, locate(_points(cells), runs), str(text) if text else None)
    plan = planner.plan(chosen, compute=False)
    summary = _summary(study, chosen, plan, root)
    unplanned = [c.label for c in chosen if plan.problems.get(c.key) == "not planned yet"]
    summary.missing += unplanned
    summary.problems.pop("not planned yet", None)
    summary.pretrained, summary.dry_run = len(missing_runs(_points(chosen), runs)), True
    return summary


def _summary(study: Study, chosen: Sequence[Cell], plan: Plan, root: Path) -> Summary:
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
        elif state.status == "failed":
            last = state.reason.strip().splitlines()[-1:] or [""]
            summary.failed.append(f"{cell.label}: {last[0]}")
        else:
            summary.missing.append(cell.label)
    return summary


def _points(cells: Sequence[Cell]) -> list[Point]:
    """Return every checkpoint of the cells once."""
    return list({digest(cell.point.spec()): cell.point for cell in cells}.values())


def _pending(jobs: Sequence[Job], store: Store, *, retry_failed: bool) -> list[Job]:
    finished = {"done"} if retry_failed else {"done", "failed"}
    return [job for job in jobs if store.state(job.cell_id).status not in finished]


def _here(
    pending: Sequence[Job],
    *,
    study: Study,
    jobs: Sequence[Job],
    progress: SweepProgress,
    retry_failed: bool,
    **_: Any,
) -> int:
    """Run jobs in this process; those that another process holds are waited for."""
    return _drain(
        pending, functools.partial(run_job, study=study, jobs=jobs, retry_failed=retry_failed), progress.ended
    )


def _drain(pending: Sequence[Job], run_one: Callable[[Job], str], ended: Callable[[str, str], None]) -> int:
    """Run every job that is free; come back for the others until each has a result or its holder is gone."""
    ran = 0
    left = list(pending)
    while left:
        held = []
        for job in left:
            status = run_one(job)
            if status == "elsewhere":
                held.append(job)
                continue
            ran += status in {"done", "failed"}
            ended(status, job.cell.label)
        left = held
        if left:
            time.sleep(_POLL)
    return ran


def _in_workers(
    pending: Sequence[Job],
    *,
    study: Study,
    jobs: Sequence[Job],
    progress: SweepProgress,
    retry_failed: bool,
    workers: int | None,
    **_: Any,
) -> int:
    """Run jobs in processes of their own; each begins at another place and takes what nobody holds."""
    from overtrain.common.pool import Pool

    count = min(workers or 1, len(pending)) or 1
    store = Store(pending[0].root) if pending else None
    waiting = list(pending)

    def look(_: int) -> None:
        for job in list(waiting):
            status = store.state(job.cell_id).status if store else "missing"
            if status in {"done", "failed"}:
                waiting.remove(job)
                progress.ended(status, job.cell.label)

    environment = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with Pool(count, environment, pending[0].root / ".work" if pending else None) as pool:
        for number in range(count if pending else 0):
            start = number * len(pending) // count
            order = [*pending[start:], *pending[:start]]
            pool.submit(f"worker {number}", _work, order, study, list(jobs), retry_failed)
        ran = sum(result for _, result in pool.finished(look))
    look(0)
    return ran


def _work(pending: Sequence[Job], study: Study, jobs: Sequence[Job], retry_failed: bool) -> int:
    """Do a worker's share; the parent looks at the store after every cell."""
    from overtrain.common.pool import report

    one = functools.partial(run_job, study=study, jobs=jobs, retry_failed=retry_failed)
    return _drain(pending, one, lambda *_: report(1))


def _on_ray(
    pending: Sequence[Job],
    *,
    study: Study,
    jobs: Sequence[Job],
    progress: SweepProgress,
    retry_failed: bool,
    address: str | None,
    **_: Any,
) -> int:
    from overtrain.run.executors.ray import run_on_ray

    return run_on_ray(pending, study, jobs, address or "local", progress.ended, retry_failed=retry_failed)
