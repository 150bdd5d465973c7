"""One cell in several processes under ``torchrun``.

This is no executor of jobs: it replaces `overtrain.run.measure.measure` inside one job, wherever an executor runs that job.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.errors import DivergedError
from overtrain.run.job_file import job_file
from overtrain.run.process import DIVERGED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.plan.jobs import Job

__all__ = ["ATTEMPTS", "measure", "run_processes"]

ATTEMPTS = 3
"""How often processes that could not find each other are started."""

_UNCONNECTED = (
    "eaddrinuse",
    "address already in use",
    "distnetworkerror",
    "rendezvousconnectionerror",
    "connectfullmesh failed",
    "connection closed by peer",
)
"""What torchrun prints when another program took the port that torchrun had picked, or a process of the group was lost."""

_LAUNCHER = re.compile(r"^.*failed \(exitcode: .*$", re.MULTILINE)
"""Where the processes' own output ends and torchrun's account of it begins."""

_SHOWN = 20


def measure(job: Job, processes: int) -> dict[str, bytes]:
    """Measure the cell of ``job`` in ``processes`` processes; return its files, ``spec.json`` aside: name -> content.

    The processes read the job that was planned; they do not look at the study's YAML file. Call it while holding the cell.

    Raises:
        RuntimeError: as `run_processes`.
        StoreError: the job cannot be handed over.
    """
    with job_file(job) as path:
        return run_processes("overtrain.run.process", [str(path)], processes)


def run_processes(module: str, arguments: Sequence[str], processes: int) -> dict[str, bytes]:
    """Run ``python -m module *arguments FOLDER`` in ``processes`` processes; return the files that lie in FOLDER after it.

    Processes that could not connect to each other are started again, in an empty folder; whatever else fails is an error
    at once. All output goes to this process's standard output.

    Raises:
        DivergedError: as the processes raise.
        RuntimeError: torchrun failed; the message is the processes' own where they printed one, else their last lines.
    """
    for attempt in range(1, ATTEMPTS + 1):
        with tempfile.TemporaryDirectory() as scratch:
            command = [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(processes), "-m", module, *arguments, scratch),
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # noqa: S603
            printed = done.stdout.decode("utf-8", "replace")
            sys.stdout.write(printed)
            if done.returncode == 0:
                return {file.name: file.read_bytes() for file in Path(scratch).iterdir()}
        diverged = [line for line in printed.splitlines() if line.startswith(DIVERGED)]
        if diverged:
            raise DivergedError(diverged[0].removeprefix(DIVERGED))
        messages = [line for line in printed.splitlines() if line.startswith("error: ")]
        if messages:
            raise RuntimeError(f"torchrun ended with {done.returncode}: {messages[0]}")
        if attempt == ATTEMPTS or not any(text in printed.lower() for text in _UNCONNECTED):
            last = "\n".join(_LAUNCHER.split(printed)[0].splitlines()[-_SHOWN:])
            raise RuntimeError(f"torchrun ended with {done.returncode}; the last lines of its output:\n{last}")
        sys.stdout.write(f"the processes did not connect; starting them again ({attempt + 1} of {ATTEMPTS})\n")
    raise AssertionError("unreachable")
