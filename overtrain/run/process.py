"""One of the processes that torchrun starts for one cell: ``-m overtrain.run.process JOB_FILE OUT``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from model_wrappers.errors import DivergedError, OvertrainError
from model_wrappers.processes import end

__all__ = ["DIVERGED", "main"]

DIVERGED = "diverged: "
"""What a process prints before the message of a `DivergedError`, for the parent process to tell it from an error."""


def main(job_file: str, out: str) -> None:
    """Measure the job in ``job_file``; the first process writes the cell's files into ``out``; then the process ends.

    Raises:
        OvertrainError: as the cell raises.
    """
    from overtrain.run.job_file import read_job
    from overtrain.run.measure import evaluate, files_of

    job = read_job(Path(job_file))
    outcome = evaluate(job)
    if int(os.environ.get("RANK", "0")) == 0:  # the other processes have no results, only their share of the work
        for name, content in files_of(outcome, samples=job.cell.evaluation.samples).items():
            (Path(out) / name).write_bytes(content)
    end()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except DivergedError as error:
        sys.stderr.write(f"{DIVERGED}{error}\n")
        sys.exit(2)
    except OvertrainError as error:  # torch.distributed's own excepthook would swallow the message
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
