"""Runs command lines as users do, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
INCLUDE = str(Path(__file__).parents[1] / "overtrain_tasks")


def run(
    *command: object, cwd: Path | None = None, timeout: float = 240, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a console script of this environment, offline; ``env`` is added to the environment, None values removed."""
    words = [str(w) for w in command]
    script = BIN / words[0]
    words[0] = str(script) if script.exists() else words[0]
    whole = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | env
    return subprocess.run(words, cwd=cwd, env=whole, capture_output=True, text=True, timeout=timeout, check=False)


def model_args(**given: object) -> str:
    return ",".join(f"{k}={v}" for k, v in given.items())


def results(folder: Path) -> dict:
    """Return the one results file below ``folder``."""
    (found,) = folder.rglob("results_*.json")
    return json.loads(found.read_text())


def assert_one_message(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """A user's error: exit code 2, one line that says ``words``, no traceback."""
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in line, line
