"""The real hub: revisions, tokens and fingerprints of a tiny public model, from its listings alone; no weights are fetched."""

from __future__ import annotations

import pytest

from model_wrappers.checkpoints import hub
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import CheckpointError

pytestmark = pytest.mark.network

REPO = "EleutherAI/pythia-14m"


@pytest.fixture(autouse=True)
def online(monkeypatch, own_cache):
    """The tests are offline by default; without a connection these skip."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if hasattr(huggingface_hub, "close_session"):
        huggingface_hub.close_session()  # a session remembers that it is offline
    hub.snapshot.cache_clear()
    try:
        huggingface_hub.HfApi().model_info(REPO, timeout=10)
    except Exception as error:  # noqa: BLE001  (whatever a machine without a network raises)
        pytest.skip(f"the Hugging Face hub does not answer ({type(error).__name__}: {str(error)[:100]})")
    yield
    hub.snapshot.cache_clear()
    if hasattr(huggingface_hub, "close_session"):
        huggingface_hub.close_session()


def test_a_revision_has_its_tokens_its_commit_and_its_own_weights():
    early, late = (Checkpoint(repo=REPO, revision=f"step{n}") for n in (1000, 143000))
    assert (early.tokens_seen(), late.tokens_seen()) == (1000 * 1024 * 2048, 143_000 * 1024 * 2048)
    assert len(early.sha()) == len(late.sha()) == 40
    assert early.sha() != late.sha()
    assert early.fingerprint() != late.fingerprint()
    assert early.fingerprint() == Checkpoint(repo=REPO, revision=early.sha()).fingerprint()


def test_a_revision_that_is_not_there_is_one_message_with_close_names():
    with pytest.raises(CheckpointError, match="step1000"):
        Checkpoint(repo=REPO, revision="step1001").fingerprint()
