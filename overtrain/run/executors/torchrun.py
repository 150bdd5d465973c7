"""Starts the processes of one cell under ``torchrun`` and brings back what the first of them wrote."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ATTEMPTS", "run_processes"]

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
"""What torchrun prints when the port that it picked was taken in between, or a process of the group was lost."""

_LAUNCHER = re.compile(r"^.*failed \(exitcode: .*$", re.MULTILINE)
"""Where the processes' own output ends and torchrun's account of it begins."""

_SHOWN = 20


def run_processes(module: str, arguments: Sequence[str], processes: int) -> dict[str, bytes]:
    """Run ``python -m module *arguments FOLDER`` in ``processes`` processes; return the files that lie in FOLDER after it.

    Processes that could not connect to each other are started again, in an empty folder; whatever else fails is an error
    at once. All output goes to this process's standard output.

    Raises:
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
        said = [line for line in printed.splitlines() if line.startswith("error: ")]
        if said:
            raise RuntimeError(f"torchrun ended with {done.returncode}: {said[0]}")
        if attempt == ATTEMPTS or not any(sign in printed.lower() for sign in _UNCONNECTED):
            last = "\n".join(_LAUNCHER.split(printed)[0].splitlines()[-_SHOWN:])
            raise RuntimeError(f"torchrun ended with {done.returncode}; the last lines of its output:\n{last}")
        sys.stdout.write(f"the processes did not connect; starting them again ({attempt + 1} of {ATTEMPTS})\n")
    raise AssertionError("unreachable")
