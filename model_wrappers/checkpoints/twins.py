"""Revisions that have different names and the same weights.

More than half of the branches of Pythia-2.8b contain the weights of the last step, and three revisions of OLMo-2-7B are equal
byte by byte. A curve over such revisions is flat for the wrong reason. A study refuses them (`overtrain.plan.planner`). A
single run sees one revision only, so its weights are compared with those of the repository's ``main`` and with those of
the revisions that were run on this machine before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.cache import cache_root
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.checkpoints.fingerprints import recall, remember
from model_wrappers.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["twins"]


def twins(checkpoint: Checkpoint) -> list[str]:
    """Return the other revisions of the repository that are known to have the same weights; none for a local folder.

    Raises:
        CheckpointError: the checkpoint itself cannot be found.
    """
    if checkpoint.is_local or checkpoint.revision == checkpoint.sha():
        return []
    fingerprint = checkpoint.fingerprint()
    place = f"{checkpoint.repo}/{checkpoint.subfolder}@"
    known = {
        key.removeprefix(place): entry["fingerprint"]
        for key, entry in recall(_memory()).items()
        if key.startswith(place) and isinstance(entry, dict) and "fingerprint" in entry
    }
    if checkpoint.revision != "main":
        try:
            known["main"] = Checkpoint(repo=checkpoint.repo, subfolder=checkpoint.subfolder).fingerprint()
        except CheckpointError:  # offline, or main has no weights: nothing to compare with
            known.pop("main", None)
    remember(_memory(), place + checkpoint.revision, {"fingerprint": fingerprint})
    return sorted(name for name, seen in known.items() if seen == fingerprint and name != checkpoint.revision)


def _memory() -> Path:
    return cache_root() / "revisions.json"
