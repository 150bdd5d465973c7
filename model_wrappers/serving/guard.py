"""Runs a command, and ends the command with all its child processes when the parent process dies.

Run ``python guard.py COMMAND...`` with a pipe as standard input. The pipe closes when the parent process dies, even if SIGKILL
ended it and no Python clean-up ran. Without the guard, a model server would stay behind and occupy its accelerator. This
module imports only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

__all__ = ["end_group", "main"]

_GRACE = 10.0
"""Seconds between asking a process group to end and killing it."""


def end_group(process: subprocess.Popen[bytes], grace: float = _GRACE) -> None:
    """End ``process``, the leader of its session, and its process group; after ``grace`` seconds, kill what is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    # This is needed even if the leader has ended: its workers may have ignored SIGTERM.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(command: list[str]) -> int:
    """Run ``command`` and return its exit status; end it if standard input closes or a signal arrives."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603

    def end(*_: object) -> None:
        end_group(process)
        os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        end()

    threading.Thread(target=watch, daemon=True).start()
    status = process.wait()
    end_group(process, 0.0)  # ends workers that outlived the leader
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
