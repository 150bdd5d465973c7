"""The protocol of executors: an executor runs jobs somewhere and says how each job ended.

One contract test (``tests/overtrain/run/executors/test_contract.py``) runs over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from overtrain.plan.jobs import Job

__all__ = ["Executor", "JobOutcome", "JobStatus"]

JobStatus = Literal["done", "diverged", "failed", "skipped"]
"""How a job ended: evaluated, without finite weights or scores, with an error, or not run because its result was stored
meanwhile by another process."""


@dataclass(frozen=True)
class JobOutcome:
    """How one job ended."""

    job: Job
    status: JobStatus


class Executor(Protocol):
    """Runs the jobs of a sweep.

    Every job has exactly one outcome. A failing job does not stop the others. A job whose cell another process holds is
    waited for: its outcome comes when that process has stored a result, or when the process is gone and the job was run
    here. Outcomes come in the order in which the jobs end.
    """

    def run(self, jobs: Sequence[Job]) -> Generator[JobOutcome]:
        """Run ``jobs`` and yield the outcome of each one.

        Closing the generator stops the work that is under way; finished cells are kept.

        Raises:
            StoreError: results cannot be written, or a worker process was killed.
            KeyboardInterrupt: Ctrl-C was pressed. The work under way has been stopped, and finished cells are kept.
        """
        ...
