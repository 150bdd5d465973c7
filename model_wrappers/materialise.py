"""Puts modified weights into the cache: loads the checkpoint in float32, applies the modifications, saves the result."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from model_wrappers.cache import ELSEWHERE, Entry, WeightsCache
from model_wrappers.checkpoints.load_errors import loading
from model_wrappers.checkpoints.loading import Whole, refuse_ignored, refuse_not_finite, refuse_offloaded
from model_wrappers.errors import StoreError
from model_wrappers.files import writing
from model_wrappers.identity import weights_id
from model_wrappers.processes import world

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from model_wrappers.modifications.base import Modification

__all__ = ["Step", "apply_in_memory", "tuned_weights", "versions"]


class Step(NamedTuple):
    """One applied modification: its fields, its metrics and its record, all as JSON data."""

    described: dict[str, Any]
    metrics: dict[str, float]
    record: dict[str, Any]


def versions() -> dict[str, str]:
    """Return the versions of the packages that weights and scores depend on."""
    return {p: version(p) for p in ("lm-eval-overtrain", "lm_eval", "torch", "transformers", "peft", "accelerate")}


def apply_in_memory(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Checkpoint,
    modifications: Sequence[Modification],
    work: Path | None = None,
) -> tuple[PreTrainedModel, list[Step]]:
    """Apply ``modifications`` to ``model`` in order; return the modified model, and one `Step` per modification.

    Raises:
        ConfigError: weights are offloaded, so they cannot be modified.
        DivergedError: a weight is not finite, before or after a modification.
    """
    steps = []
    if modifications:
        refuse_offloaded(model)
    refuse_not_finite(model, f"the weights of {checkpoint.repo}")
    for modification in modifications:
        modified = modification.apply(model, tokenizer, checkpoint, work=work)
        model = modified.model
        refuse_not_finite(model, f"{modification.name} with {modification.asked_for()}")
        steps.append(Step(modification.describe(), modified.metrics, modified.record))
    return model, steps


def tuned_weights(
    checkpoint: Checkpoint,
    modifications: Sequence[Modification],
    tokenizer: PreTrainedTokenizerBase,
    *,
    device: torch.device,
    key: str | None = None,
    trust_remote_code: bool = False,
    cache: WeightsCache | None = None,
) -> Entry:
    """Return the cache entry of ``modifications`` applied to ``checkpoint``. If there is none, the weights are trained.

    Under torchrun, every process calls this function. Rank 0 looks into the cache and holds the lock, all ranks train, and
    rank 0 writes the weights. All ranks read the folder of the entry, so it must be on a file system that they share.

    Args:
        checkpoint: the checkpoint to modify.
        modifications: in order.
        tokenizer: the checkpoint's tokenizer.
        device: device to train on.
        key: `weights_id` of the result, if the caller knows it; otherwise all training rows are read to compute it.
        trust_remote_code: allow code that comes with a repository to run.
        cache: the cache; by default the user's.

    Raises:
        StoreError: the entry cannot be written, or another node cannot see it.
    """
    cache = cache or WeightsCache()
    key = key or weights_id(checkpoint, modifications, tokenizer)
    rank, processes = world()

    def build(folder: Path, work: Path) -> dict[str, Any]:
        started = time.time()
        model = _load(checkpoint, device, trust_remote_code)
        model, steps = apply_in_memory(model, tokenizer, checkpoint, modifications, work)
        if rank == 0:
            with writing(folder, elsewhere=ELSEWHERE):
                model.save_pretrained(folder, safe_serialization=True)
                tokenizer.save_pretrained(folder)
        return {
            "weights_id": key,
            "checkpoint": checkpoint.describe(),
            "steps": [s._asdict() for s in steps],
            "versions": versions(),
            "processes": processes,
            "device": str(device),
            "seconds": round(time.time() - started, 3),
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    if processes == 1:
        return cache.get_or_create(key, build)
    return _together(cache, key, build, rank)


def _together(cache: WeightsCache, key: str, build: Any, rank: int) -> Entry:
    """Make one entry with all processes of a job: all of them train, and rank 0 alone uses the cache's lock and writes."""
    from torch import distributed

    folders: list[Any] = [None]
    entry: Entry | None = None

    def announce(folder: Path, work: Path) -> dict[str, Any]:
        folders[0] = [str(folder), str(work)]
        distributed.broadcast_object_list(folders, src=0)
        return dict(build(folder, work))

    if rank == 0:
        entry = cache.get_or_create(key, announce)
        if folders[0] is None:
            distributed.broadcast_object_list(folders, src=0)
    else:
        from pathlib import Path as _Path

        distributed.broadcast_object_list(folders, src=0)
        if folders[0] is not None:
            build(_Path(folders[0][0]), _Path(folders[0][1]))
    distributed.barrier()
    entry = entry or cache.get(key)
    if entry is None:
        raise StoreError(
            f"{cache.root / key}: written by rank 0 but not to be seen from rank {rank}; set OVERTRAIN_CACHE to a folder "
            "that all nodes share"
        )
    return entry


def _load(checkpoint: Checkpoint, device: torch.device, trust_remote_code: bool) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with loading("weights", checkpoint):
        model = Whole(AutoModelForCausalLM).from_pretrained(
            checkpoint.location(),
            dtype=torch.float32,
            trust_remote_code=trust_remote_code,
            **checkpoint.load_kwargs(),
            **dict(checkpoint.overrides),
        )
    refuse_ignored(model, checkpoint.overrides)
    return model.to(device).eval()


def steps_of(entry: Entry) -> list[Step]:
    """Return the steps that are recorded in an entry of the cache."""
    return [Step(**json.loads(json.dumps(s))) for s in entry.meta["steps"]]
