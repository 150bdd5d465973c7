"""The time that the import hook adds to the start of the interpreter, and the time of ``overtrain --help``.

``python -m benchmarks.startup``. The hook's line, which imports nothing, is compiled and run as `site` does it, many times
in one process. The help runs in a separate process, so its time includes the start of the interpreter. Both are wall times.
Writes ``benchmarks/results/startup.json``; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import model_wrappers._hook
from benchmarks.models import machine, spread

PTH = Path(model_wrappers._hook.__file__).with_name("lm_eval_overtrain_models.pth")
RESULT = Path(__file__).parent / "results" / "startup.json"
HOOK_BAR, HELP_BAR = 1.0, 0.4
"""Milliseconds, seconds."""


def hook_milliseconds(repeats: int = 500) -> list[float]:
    """Return the times of running the ``.pth`` line."""
    line = next(text for text in PTH.read_text().splitlines() if text.startswith("import "))
    found = []
    for _ in range(repeats):
        before = list(sys.meta_path)
        start = time.perf_counter()
        exec(line)
        found.append(1000 * (time.perf_counter() - start))
        sys.meta_path[:] = before
    return found


def help_seconds(repeats: int = 7) -> list[float]:
    """Return the wall times of ``overtrain --help``."""
    script = Path(sys.executable).parent / "overtrain"
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([script, "--help"], check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return found


def main() -> int:
    """Measure, print, write; return 1 where a bar is missed."""
    about = {name: value for name, value in machine().items() if name != "rows"}
    found = {**about, "hook_milliseconds": spread(hook_milliseconds(), 4), "help_seconds": spread(help_seconds(), 4)}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    hook, shown = found["hook_milliseconds"]["median"], found["help_seconds"]["median"]
    print(f"import hook at interpreter start: {hook:.3f} ms (bar: {HOOK_BAR:g} ms)")
    print(f"overtrain --help: {shown:.2f} s (bar: {HELP_BAR:g} s)")
    return int(hook > HOOK_BAR or shown > HELP_BAR)


if __name__ == "__main__":
    sys.exit(main())
