"""Jobs whose measurements are scripts (succeed, fail, wait), for tests of executors: the store and the claims are real.

``python -m scripted_jobs EXECUTOR ROOT N`` runs N jobs, each of which takes as long as the file ``ROOT/wait`` exists.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from model_wrappers.errors import DivergedError, StoreError
from model_wrappers.identity import digest
from overtrain.plan.cells import Cell
from overtrain.plan.jobs import Job
from overtrain.results.store import FILES, Store
from overtrain.run.cell import CellRunner, spec_file
from overtrain.study.settings import CellResources, Evaluation
from overtrain.study.study import Point


@dataclass(frozen=True)
class ScriptedRunner(CellRunner):
    """A real `CellRunner` whose measurement does what the job's checkpoint is named after."""

    def _measure(self, job):
        with (job.root / "measured").open("a") as log:
            log.write(f"{job.cell_id}\n")
        script = job.repo.rpartition("/")[2].partition("-")[0]
        if script == "fails":
            raise RuntimeError("boom")
        if script == "diverges":
            raise DivergedError("training diverged at step 3")
        if script == "full":
            raise StoreError("the disk is full")
        if script == "waits":
            (job.root / f"began-{job.cell_id}").touch()
            while (job.root / "wait").exists():
                time.sleep(0.02)
        return result_files()


def result_files():
    return {name: b"[]" for name in FILES if name != "spec.json"}


def make_jobs(root, *scripts):
    """Return one job per script, such as ``works``, ``fails``, ``full`` or ``waits``."""
    jobs = []
    for number, script in enumerate(scripts):
        point = Point(repo=f"/models/{script}-{number}", tokens=number, family="f", run="r", local=True)
        cell = Cell(point=point, variant="base", tasks=("t",), evaluation=Evaluation())
        job = Job(
            cell=cell, point=point, text_file=None, cell_id="", weights_id=f"{number:064}", tuned_id=None, requests={},
            tasks_stamp="", dtype="float32", tokenizer="", reuse_base=False, root=Path(root),
        )  # fmt: skip
        jobs.append(dataclasses.replace(job, cell_id=digest(job.identity)))
    return jobs


def runner_of(jobs, retry=None):
    return ScriptedRunner(SimpleNamespace(resources=CellResources(), keep_weights="all"), jobs, retry or {})


def executor_of(kind, runner):
    if kind == "here":
        from overtrain.run.executors.here import HereExecutor

        return HereExecutor(runner)
    if kind == "workers":
        from overtrain.run.executors.workers import WorkersExecutor

        return WorkersExecutor(runner, 2)
    from overtrain.run.executors.ray import RayExecutor

    return RayExecutor(runner, "local")


def store_result(job):
    """Store a finished result of ``job``, as another sweep would; call it while holding the claim."""
    files = {"spec.json": spec_file(job)} | result_files()
    Store(job.root).write(job.cell_id, files, "done", started=time.time())


def main(kind, root, number):
    jobs = make_jobs(root, *["waits"] * int(number))
    for outcome in executor_of(kind, runner_of(jobs)).run(jobs):
        print(outcome.status, outcome.job.cell.label, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
