"""The two identities: ``weights_id`` names tuned weights, ``cell_id`` names results. Both hash canonical JSON."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from model_wrappers.compat import lm_eval_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lm_eval.api.instance import Instance
    from transformers import PreTrainedTokenizerBase

    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from model_wrappers.modifications.base import Modification

__all__ = ["RequestDigest", "canonical", "cell_id", "digest", "weights_digest", "weights_id"]


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: equal values give equal text.

    >>> canonical({"b": 1.0, "a": ["é"]})
    '{"a":["é"],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 of `canonical`, as hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def weights_id(
    checkpoint: Checkpoint, modifications: Sequence[Modification], tokenizer: PreTrainedTokenizerBase
) -> str:
    """Return the key of the weights that ``modifications``, in this order, make of ``checkpoint``.

    Hashes the weight files, each modification's identity (seed and training data included) and nothing that only says
    where or how fast. A modification at its neutral values is the identity and does not count.

    Raises:
        CheckpointError: the weight files cannot be found or hashed.
        DataError: the training data cannot be read.
    """
    steps = [m.identity(checkpoint, tokenizer) for m in modifications if not m.is_neutral()]
    return weights_digest(checkpoint, steps)


def weights_digest(checkpoint: Checkpoint, steps: Sequence[Mapping[str, Any]]) -> str:
    """Return the `weights_id` of steps whose identities are known already, those that change nothing left out.

    Raises:
        CheckpointError: the weight files cannot be found or hashed.
    """
    return digest({"weights": checkpoint.fingerprint(), "modifications": [dict(step) for step in steps]})


def cell_id(weights: str, tasks: Mapping[str, str], dtype: str) -> str:
    """Return the key of results.

    Args:
        weights: `weights_id` of what was evaluated.
        tasks: task name -> `RequestDigest` of its requests, which covers rows, few-shot examples, limit and template.
        dtype: of the evaluated weights, e.g. ``"float32"``.
    """
    return digest({"weights": weights, "tasks": dict(tasks), "dtype": dtype, "lm_eval": lm_eval_version()})


class RequestDigest:
    """Collects what a model is asked, task by task, and hashes it independently of order and of the number of ranks."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[tuple[int, int], str]] = {}

    def add(self, kind: str, requests: Iterable[Instance]) -> None:
        """Note ``requests`` of one kind (``"loglikelihood"``, ...); one asked twice (padding between ranks) counts once."""
        for r in requests:
            text = json.dumps([kind, *r.args], ensure_ascii=False, default=lambda o: type(o).__name__)
            key = (int(r.doc_id or 0), int(r.idx))
            self.seen.setdefault(str(r.task_name), {})[key] = hashlib.sha256(text.encode()).hexdigest()

    def merge(self, others: Iterable[dict[str, dict[tuple[int, int], str]]]) -> None:
        """Take over what other ranks have seen."""
        for other in others:
            for task, requests in other.items():
                self.seen.setdefault(task, {}).update(requests)

    def by_task(self) -> dict[str, str]:
        """Return task name -> sha256 over its requests in (document, choice) order."""
        return {
            task: digest([[*key, text] for key, text in sorted(requests.items())])
            for task, requests in sorted(self.seen.items())
        }
