"""What the import hook costs at interpreter start, and how long ``overtrain --help`` takes.

``python -m benchmarks.startup``. The hook's line is compiled and run as `site` does, many times in one process; the help
is a process of its own, so its figure includes the interpreter's start.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import model_wrappers._hook

PTH = Path(model_wrappers._hook.__file__).with_name("lm_eval_overtrain_models.pth")


def hook_milliseconds(repeats: int = 500) -> float:
    """Return the median time of running the ``.pth`` line."""
    line = next(text for text in PTH.read_text().splitlines() if text.startswith("import "))
    found = []
    for _ in range(repeats):
        before = list(sys.meta_path)
        start = time.perf_counter()
        exec(line)
        found.append(time.perf_counter() - start)
        sys.meta_path[:] = before
    return 1000 * statistics.median(found)


def help_seconds(repeats: int = 7) -> float:
    """Return the median wall time of ``overtrain --help``."""
    script = Path(sys.executable).parent / "overtrain"
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([script, "--help"], check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    print(f"import hook at interpreter start: {hook_milliseconds():.3f} ms (bar: 1 ms)")
    print(f"overtrain --help: {help_seconds():.2f} s (bar: 0.4 s)")
