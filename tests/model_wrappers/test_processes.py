"""Who belongs to a job; several processes for real run in test_commands.py."""

from __future__ import annotations

import pytest

from model_wrappers.errors import ConfigError
from model_wrappers.processes import world


def test_alone_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert world() == (0, 1)


def test_processes_that_did_not_join_are_noticed(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        world()
