"""Jobs in several processes on this machine, each with one thread."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overtrain.common.pool import Pool, report
from overtrain.run.executors.base import JobOutcome
from overtrain.run.executors.here import HereExecutor

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from overtrain.plan.jobs import Job
    from overtrain.run.cell import CellRunner
    from overtrain.run.executors.base import JobStatus

__all__ = ["WorkersExecutor"]

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class WorkersExecutor:
    """Runs jobs in ``workers`` processes.

    Every worker goes through all jobs and runs each one that no other process holds. The workers start at different places,
    so that neighbouring jobs, which share base weights, mostly run in one process. Ctrl-C ends the workers at once; their
    cells are then missing and not stored as cancelled.
    """

    runner: CellRunner
    workers: int

    def run(self, jobs: Sequence[Job]) -> Generator[JobOutcome]:
        """Run every job in one of the workers."""
        if not jobs:
            return
        workers = min(self.workers, len(jobs))
        merged = _Merged(jobs, workers)
        with Pool(workers, _ENVIRONMENT, jobs[0].root / ".work") as pool:
            for worker in range(workers):
                start = worker * len(jobs) // workers
                pool.submit(f"worker {worker}", _work, worker, self.runner, [*jobs[start:], *jobs[:start]])
            for messages in pool.news():
                for message in messages:
                    yield from merged.add(message)


@dataclass(frozen=True)
class _Message:
    """A message of a worker: the cell, and how its job ended in this worker."""

    worker: int
    cell_id: str
    status: JobStatus


class _Merged:
    """Merges the messages of all workers into one outcome per job.

    The worker that ran a job says ``done`` or ``failed``, the others say ``skipped``. The outcome is ``skipped`` only if all
    workers say so. Repeated messages count once.
    """

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self._open = {job.cell_id: job for job in jobs}
        self._workers = workers
        self._skipped_by: defaultdict[str, set[int]] = defaultdict(set)

    def add(self, message: _Message) -> Iterator[JobOutcome]:
        """Yield the job's outcome if this message settles it."""
        if message.cell_id not in self._open:
            return
        if message.status == "skipped":
            skipped_by = self._skipped_by[message.cell_id]
            skipped_by.add(message.worker)
            if len(skipped_by) < self._workers:
                return
        yield JobOutcome(self._open.pop(message.cell_id), message.status)


def _work(worker: int, runner: CellRunner, jobs: Sequence[Job]) -> list[_Message]:
    """Run jobs in a worker process; report every end at once, and return all of them.

    A report may still be on its way when the worker's last job ends; the returned list arrives in any case.
    """
    messages = []
    for outcome in HereExecutor(runner).run(jobs):
        messages.append(_Message(worker, outcome.job.cell_id, outcome.status))
        report(messages[-1:])
    return messages
