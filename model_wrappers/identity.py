"""The two identities: ``weights_id`` identifies tuned weights, ``cell_id`` identifies results. Both hash canonical JSON."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.compat import lm_eval_version
from model_wrappers.digests import canonical, content_digest, digest, tokenizer_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lm_eval.api.instance import Instance
    from transformers import PreTrainedTokenizerBase

    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from model_wrappers.modifications.base import Modification

__all__ = [
    "CellIdentity",
    "RequestDigest",
    "canonical",
    "digest",
    "score_arguments",
    "tokenizer_sha256",
    "weights_digest",
    "weights_id",
]


def weights_id(
    checkpoint: Checkpoint, modifications: Sequence[Modification], tokenizer: PreTrainedTokenizerBase
) -> str:
    """Return the identity of the weights that result from ``modifications``, in this order, of ``checkpoint``.

    It is a hash of the weight files, the configuration, and each modification's identity (seed and training data included).
    Settings that only decide where or how fast are not included. Modifications at their neutral values are left out, because
    they change nothing.

    Raises:
        CheckpointError: the weight files cannot be found or hashed.
        DataError: the training data cannot be read.
    """
    steps = [m.identity(checkpoint, tokenizer) for m in modifications if not m.is_neutral()]
    return weights_digest(checkpoint, steps)


def weights_digest(checkpoint: Checkpoint, steps: Sequence[Mapping[str, Any]]) -> str:
    """Return the `weights_id` of steps whose identities are already known. ``steps`` has no step that changes nothing.

    Raises:
        CheckpointError: the weight files cannot be found or hashed.
    """
    return digest({**checkpoint.identity(), "modifications": [dict(step) for step in steps]})


@dataclass(frozen=True, kw_only=True)
class CellIdentity:
    """Everything that determines a cell's scores. Cells with equal identities share one result.

    Attributes:
        weights: `weights_id` of the evaluated weights.
        tasks: task name -> `RequestDigest` of its requests, which covers rows, few-shot examples, limit and template.
        dtype: dtype of the evaluated weights, e.g. ``"float32"``.
        tokenizer: `tokenizer_sha256` of the tokenizer of the requests.
        arguments: arguments of lm-eval's model that change scores (``max_length``, ``add_bos_token``, ``softmax_dtype``, ...)
            and differ from their defaults.
        lm_eval: version of lm-eval.
    """

    weights: str
    tasks: Mapping[str, str]
    dtype: str
    tokenizer: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lm_eval: str = field(default_factory=lm_eval_version)

    def describe(self) -> dict[str, Any]:
        """Return the identity as the JSON data whose digest is ``cell_id``."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"tasks": dict(self.tasks)}

    @property
    def cell_id(self) -> str:
        """The key of the results."""
        return digest(self.describe())


def score_arguments(given: Mapping[str, Any], host: type) -> dict[str, Any]:
    """Return the arguments of lm-eval's model class that change scores and differ from their defaults, as JSON data.

    Args:
        given: keyword arguments for ``host``, without the arguments that belong to the checkpoint.
        host: lm-eval's model class.
    """
    defaults = {name: p.default for name, p in inspect.signature(host).parameters.items()}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in WHERE_AND_HOW_FAST or (name in defaults and value == defaults[name]):
            continue
        if name in _FOLDERS:
            found[name] = content_digest(Path(str(value)))
        else:
            found[name] = value if isinstance(value, (int, float)) else str(value)
    return found


WHERE_AND_HOW_FAST = frozenset(
    {
        *("batch_size", "max_batch_size", "device", "parallelize", "gpus", "max_memory_per_gpu", "max_cpu_memory"),
        *("offload_folder", "tp_plan", "use_fast_tokenizer", "logits_cache", "device_map", "low_cpu_mem_usage"),
        *("cache_dir", "local_files_only", "force_download", "proxies", "token", "trust_remote_code"),
        *("attn_implementation", "dtype", "tokenizer"),
    }
)
"""Arguments of lm-eval's model that `score_arguments` leaves out; dtype and tokenizer are separate parts of the identity."""

_FOLDERS = frozenset({"peft", "delta"})


class RequestDigest:
    """Collects the requests of each task and hashes them. The hash does not depend on their order or the number of ranks."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[tuple[int, int], str]] = {}

    def add(self, kind: str, requests: Iterable[Instance]) -> None:
        """Add ``requests`` of one kind (``"loglikelihood"``, ...). A repeated request (padding between ranks) counts once."""
        for r in requests:
            text = json.dumps([kind, *r.args], ensure_ascii=False, default=lambda o: type(o).__name__)
            key = (int(r.doc_id or 0), int(r.idx))
            self.seen.setdefault(str(r.task_name), {})[key] = hashlib.sha256(text.encode()).hexdigest()

    def merge(self, others: Iterable[dict[str, dict[tuple[int, int], str]]]) -> None:
        """Add the requests of other ranks."""
        for other in others:
            for task, requests in other.items():
                self.seen.setdefault(task, {}).update(requests)

    def by_task(self) -> dict[str, str]:
        """Return task name -> sha256 over its requests in (document, choice) order."""
        return {
            task: digest([[*key, text] for key, text in sorted(requests.items())])
            for task, requests in sorted(self.seen.items())
        }
