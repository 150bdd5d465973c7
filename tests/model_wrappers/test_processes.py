"""Who belongs to a job; several processes for real run in test_commands.py."""

from __future__ import annotations

import pytest

from model_wrappers.errors import ConfigError
from model_wrappers.processes import end, world


def test_alone_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert world() == (0, 1)


def test_processes_that_did_not_join_are_noticed(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        world()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "left"), [("end()", {}), ("", {"0": b"False", "1": b"False"})])
def test_no_process_is_taken_down_within_its_group(tmp_path, monkeypatch, how, left):
    """A cell ends without the interpreter's exit handlers; whatever else has joined leaves the group in one of them."""
    from overtrain.run.executors.torchrun import run_processes

    (tmp_path / "job.py").write_text(
        "import atexit, os, pathlib, sys\n"
        "from torch import distributed\n"
        "out = pathlib.Path(sys.argv[-1])\n"
        "atexit.register(lambda: (out / os.environ['RANK']).write_text(str(distributed.is_initialized())))\n"
        "from model_wrappers.processes import end, join\n"
        "join()\n"
        "assert distributed.is_initialized()\n"
        f"{how}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_processes("job", [], 2) == left


def test_a_process_alone_goes_on(monkeypatch):
    monkeypatch.setattr("os._exit", lambda code: pytest.fail("ended"))
    assert end() is None
