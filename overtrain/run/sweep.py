"""Runs a study: every cell that has no result yet, in this process, in several or on a cluster.

Any number of sweeps, started by hand or by a scheduler, can work on one folder at the same time.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.identity import digest
from overtrain.common.captured import captured
from overtrain.plan.cells import select_cells
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.plan.planner import Planner
from overtrain.results.planned import refused, study_record
from overtrain.results.store import Store
from overtrain.results.study_file import read_study, write_study
from overtrain.run.cell import CellRunner
from overtrain.run.executors.here import HereExecutor
from overtrain.run.ladders import held_out, locate, missing_runs, pretrain_missing
from overtrain.run.summary import Summary, summarise
from overtrain.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from overtrain.plan.cells import Cell
    from overtrain.plan.jobs import Job, Plan
    from overtrain.run.executors.base import Executor
    from overtrain.study.study import Point

__all__ = ["Summary", "plan_study", "run"]


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
        StoreError: nothing can be written; finished cells are kept.
        KeyboardInterrupt: Ctrl-C was pressed. A cell that ran in this process is stored as cancelled.
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
    to_pretrain = missing_runs(points, runs)
    with SweepProgress(console, 0, sum(r.recipe.tokens(r.budget) for r in to_pretrain)) as progress:
        if to_pretrain:
            progress.say(f"{len(to_pretrain)} runs to pre-train ...")
            pretrain_missing(points, runs, workers=workers, progress=progress.trained)
    plan, messages = plan_study(study, cells, runs)
    for text in messages:
        console.print(f"refused: {text}")
    chosen_keys = {cell.key for cell in chosen}
    pending, retry = _pending([job for job in plan.jobs if job.cell.key in chosen_keys], retry_failed=retry_failed)
    executor = _executor(CellRunner(study, plan.jobs, retry), ray=ray, workers=workers)
    ran = 0
    with SweepProgress(console, len(pending)) as progress, contextlib.closing(executor.run(pending)) as outcomes:
        progress.begin_cells()
        for outcome in outcomes:
            ran += outcome.status != "skipped"
            progress.ended(outcome.status, outcome.job.cell.label)
    summary = summarise(study, chosen, plan, root)
    summary.ran, summary.refused, summary.pretrained = ran, messages, len(to_pretrain)
    summary.seconds = time.monotonic() - started
    return summary


def plan_study(study: Study, cells: Sequence[Cell], runs: Path) -> tuple[Plan, list[str]]:
    """Identify every cell and write ``study.json``; return the plan, and a message per group of outdated results.

    Raises:
        CheckpointError: two of the study's checkpoints are the same weights.
        DataError: evaluation rows are missing or malformed.
        StoreError: the study's folder cannot be written.
    """
    root = runs / study.name
    store = Store(root)
    store.prepare()
    text = held_out(study.points, runs)
    located = locate(_points(cells), runs)
    with captured(root / ".work" / "plan.log"):
        plan = Planner(root, located, str(text) if text else None).plan(cells)
    messages = refused(read_study(root), plan, store)
    write_study(root, study_record(study, cells, plan))
    return plan, messages


def _executor(runner: CellRunner, *, ray: str | None, workers: int | None) -> Executor:
    """Return the executor of the jobs: a Ray cluster, several workers, or this process."""
    if ray is not None:
        from overtrain.run.executors.ray import RayExecutor

        return RayExecutor(runner, ray)
    if workers is not None and workers > 1:
        from overtrain.run.executors.workers import WorkersExecutor

        return WorkersExecutor(runner, workers)
    return HereExecutor(runner)


def _pending(jobs: Sequence[Job], *, retry_failed: bool) -> tuple[list[Job], dict[str, float]]:
    """Return the jobs to run, and which failed cells may be run again (`CellRunner.retry`)."""
    pending: list[Job] = []
    retry: dict[str, float] = {}
    for job in jobs:
        state = Store(job.root).state(job.cell_id)
        if state.status == "failed" and retry_failed:
            retry[job.cell_id] = state.finished
        if state.status not in {"done", "diverged", "failed"} or job.cell_id in retry:
            pending.append(job)
    return pending, retry


def _dry(study: Study, cells: Sequence[Cell], chosen: Sequence[Cell], runs: Path) -> Summary:
    root = runs / study.name
    text = held_out(study.points, runs)
    planner = Planner(root, locate(_points(cells), runs), str(text) if text else None)
    plan = planner.plan(chosen, compute=False)
    summary = summarise(study, chosen, plan, root)
    unplanned = [c.label for c in chosen if plan.problems.get(c.key) == "not planned yet"]
    summary.missing += unplanned
    summary.problems.pop("not planned yet", None)
    summary.pretrained, summary.dry_run = len(missing_runs(_points(chosen), runs)), True
    return summary


def _points(cells: Sequence[Cell]) -> list[Point]:
    """Return every checkpoint of the cells once."""
    return list({digest(cell.point.spec()): cell.point for cell in cells}.values())
