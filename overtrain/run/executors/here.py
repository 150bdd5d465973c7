"""Jobs in this process, one after the other, so that all cells share imports, tasks, requests and base weights."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overtrain.run.executors.base import JobOutcome

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from overtrain.plan.jobs import Job
    from overtrain.run.cell import CellRunner

__all__ = ["HereExecutor"]

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class HereExecutor:
    """Runs jobs in this process. Ctrl-C stores the running cell as cancelled."""

    runner: CellRunner

    def run(self, jobs: Sequence[Job]) -> Generator[JobOutcome]:
        """Run every job that is free; come back for jobs that another process holds until each one has ended."""
        waiting = list(jobs)
        while waiting:
            held = []
            for job in waiting:
                status = self.runner.run(job)
                if status == "elsewhere":
                    held.append(job)
                else:
                    yield JobOutcome(job, status)
            waiting = held
            if waiting:
                time.sleep(_POLL_SECONDS)
