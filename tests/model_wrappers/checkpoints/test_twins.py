"""Other names for the same weights, in one process, with the hub's answers given."""

from __future__ import annotations

import pytest

from model_wrappers.checkpoints import twins as module
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.checkpoints.twins import twins
from model_wrappers.errors import CheckpointError

WEIGHTS = {"main": "a", "step1": "b", "step2": "b", "step3": "a", "step4": "c"}


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    monkeypatch.setattr(Checkpoint, "sha", lambda self: f"sha of {self.revision}")
    monkeypatch.setattr(Checkpoint, "fingerprint", lambda self: WEIGHTS[self.revision])


def of(revision, repo="org/ladder"):
    return twins(Checkpoint(repo=repo, revision=revision))


def test_main_is_compared_at_once_and_others_once_they_were_seen():
    assert of("step3") == ["main"]
    assert of("step1") == []
    assert of("step2") == ["step1"]
    assert of("step1") == ["step2"]
    assert of("step4") == []
    assert of("main") == ["step3"]


def test_repositories_are_not_compared_with_each_other():
    assert of("step1") == []
    assert of("step2", repo="org/copy") == []


def test_a_main_that_cannot_be_had_is_left_out(monkeypatch):
    def fingerprint(self):
        if self.revision == "main":
            raise CheckpointError("offline")
        return WEIGHTS[self.revision]

    monkeypatch.setattr(Checkpoint, "fingerprint", fingerprint)
    assert of("step3") == []


def test_a_folder_has_no_twins(tmp_path):
    assert twins(Checkpoint(repo=tmp_path)) == []
    assert not module._memory().exists()
