"""Processes of one cell: what they wrote, what they said, and a second attempt where they did not connect."""

from __future__ import annotations

import pytest

from overtrain.run.executors.torchrun import ATTEMPTS, run_processes

pytestmark = pytest.mark.slow


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that makes an importable module of a text and returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(text: str) -> str:
        (tmp_path / "job.py").write_text(
            "import os, pathlib, sys\nout, rank = sys.argv[-1], os.environ['RANK']\n" + text
        )
        return "job"

    return make


def test_the_files_of_all_processes_come_back(module):
    name = module("pathlib.Path(out, rank).write_text(sys.argv[1])\n")
    assert run_processes(name, ["hello"], 2) == {"0": b"hello", "1": b"hello"}


def test_processes_that_do_not_connect_are_started_again(module, tmp_path, capsys):
    count = tmp_path / "count"
    name = module(
        f"count = pathlib.Path({str(count)!r})\n"
        "tries = len(count.read_text()) if count.exists() else 0\n"
        "count.write_text('x' * (tries + 1))\n"
        "if tries == 0: sys.exit('OSError: [Errno 98] Address already in use')\n"
        "pathlib.Path(out, 'answer').write_text(str(tries))\n"
    )
    assert run_processes(name, [], 1) == {"answer": b"1"}
    assert f"starting them again (2 of {ATTEMPTS})" in capsys.readouterr().out


def test_an_error_is_not_repeated_and_shows_the_last_lines(module, tmp_path):
    log = tmp_path / "log"
    name = module(f"open({str(log)!r}, 'a').write('x')\nsys.exit('the disk of the moon is full')\n")
    with pytest.raises(RuntimeError, match="the disk of the moon is full"):
        run_processes(name, [], 1)
    assert log.read_text() == "x"


def test_an_error_of_ours_is_the_message(module):
    name = module("sys.stderr.write('error: train_batch_size=3 cannot be divided\\n'); sys.exit(2)\n")
    with pytest.raises(RuntimeError, match=r"torchrun ended with 1: error: train_batch_size=3 cannot be divided"):
        run_processes(name, [], 1)
