"""Runs a command and ends it with everything it started when whoever started us is gone, however that ended.

``python guard.py COMMAND...`` with a pipe as standard input: the pipe closes when its other end's process dies, even by
SIGKILL, where no Python clean-up runs. A model server left behind would hold its accelerator until somebody notices.
Nothing but the standard library is imported.
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
    """End ``process``, a leader of its own session, and everything in its group; kill what is left after ``grace`` s."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    # Also once the leader has gone: its workers may not have listened.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(command: list[str]) -> int:
    """Run ``command``; return its exit status, or end it when standard input closes or a signal comes."""
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
    end_group(process, 0.0)  # workers of a leader that died
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
