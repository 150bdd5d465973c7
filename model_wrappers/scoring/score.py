"""Log-likelihoods of many requests, where every distinct prefix is computed once.

Source: lm-eval 0.4.13, ``HFLM._loglikelihood_tokens``, for the scored tokens and their truncation.
Deviation: the log-sum-exp is computed in fp32 for every dtype of the model; lm-eval computes it in the model's dtype.
"""

from __future__ import annotations

import hashlib
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from model_wrappers.scoring.forest import rows
from model_wrappers.scoring.tokens import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from model_wrappers.scoring.forest import Ints, PackedRow, Tokens

__all__ = ["ScoringPlan", "budget", "score"]

_log = logging.getLogger(__name__)
_SMALLEST = 256
_ON_CPU = 2048
_MASK_BYTES = 11
"""Per pair of tokens while FlexAttention's block mask is made (measured on a CPU: 10.3)."""


class ScoringPlan:
    """The distinct sequences of a list of requests, and the rows that they are packed into.

    Args:
        requests: requests as token ids.
        max_length: context length of the model in tokens. Longer requests lose tokens at their beginning.

    Attributes:
        inputs: tokens that the model reads, per distinct request.
        targets: tokens whose probability is computed, per distinct request. The model does not read the last target.
        scored: number of scored tokens, per distinct request. A request with 0, or with more than the context, cannot be
            scored.
        of_request: for each request, the index of its distinct request.
    """

    def __init__(self, requests: Iterable[Request], max_length: int) -> None:
        self.inputs: list[Tokens] = []
        self.targets: list[Tokens] = []
        self.scored: list[int] = []
        known: dict[tuple[bytes, int], int] = {}
        places = []
        for request in requests:
            whole = request.tokens[-(max_length + 1) :]
            key = (hashlib.blake2b(whole.tobytes(), digest_size=16).digest(), request.scored)
            place = known.setdefault(key, len(self.inputs))
            places.append(place)
            if place == len(self.inputs):
                self.inputs.append(whole[:-1])
                self.targets.append(whole[max(len(whole) - request.scored, 0) :])
                self.scored.append(request.scored)
        self.of_request = np.array(places, np.int64)
        self._packed: dict[int, list[PackedRow]] = {}

    @property
    def bytes(self) -> int:
        """Approximate size of the tokens and their rows in bytes."""
        return sum(4 * len(tokens) + 300 for tokens in self.inputs) * 3

    @property
    def longest(self) -> int:
        """Number of tokens that the model reads for the longest request."""
        return max(map(len, self.inputs), default=0)

    def sample(self) -> list[Request]:
        """Return the longest, the shortest and the median request, each with up to three neighbours, often its choices."""
        return [
            Request(np.concatenate([self.inputs[i], self.targets[i][-1:]]), len(self.targets[i])) for i in self._near()
        ]

    def _near(self) -> list[int]:
        order = sorted(range(len(self.inputs)), key=lambda i: len(self.inputs[i]))
        return [
            *dict.fromkeys(
                i
                for place in (order[-1], order[0], order[len(order) // 2])
                for i in range(max(place - 1, 0), min(place + 3, len(order)))
            )
        ]

    def rows(self, size: int) -> list[PackedRow]:
        """Return the rows of at most ``size`` tokens. The largest comes first, so that a lack of memory shows at once."""
        if size not in self._packed:
            found = list(rows(self.inputs, [len(t) for t in self.targets], size))
            self._packed = {size: sorted(found, key=lambda row: -len(row.tokens))}
        return self._packed[size]


def score(
    model: Any, plan: ScoringPlan, device: Any, size: int, on_row: Callable[[int], None] = lambda _: None
) -> list[tuple[float, bool]]:
    """Return (log-likelihood in nats, whether greedy) per request of ``plan``.

    Args:
        model: a causal LM of transformers that is proven (`model_wrappers.architectures.proven`).
        plan: the requests.
        device: the model's device.
        size: tokens per forward pass; halved when memory runs out.
        on_row: called after each pass with the number of distinct requests that it has scored.

    Raises:
        Unproven: the model's attention is not plain.
    """
    values = np.zeros(len(plan.inputs))
    greedy = np.zeros(len(plan.inputs), bool)
    done = 0
    for row, (value, best) in _scored(model, plan, device, size):
        values[row.members], greedy[row.members] = value, best
        done += len(row.members)
        on_row(len(row.members))
    assert done == len(plan.inputs)
    return [(float(values[i]), bool(greedy[i])) for i in plan.of_request]


def budget(model: Any, device: Any, max_length: int) -> int:
    """Return the number of tokens per forward pass: as many as fit into half of the free memory, at least one context.

    Per token, a decoder's forward pass needs memory for a few copies of the hidden state and of the widest layer. On a CPU, the
    limit is 2,048 tokens, because larger passes do not fit into the CPU's caches.
    """
    import torch

    config = model.config
    wide = max(int(getattr(config, "intermediate_size", None) or 0), 4 * int(config.hidden_size))
    per_token = (8 * int(config.hidden_size) + 3 * wide) * model.dtype.itemsize
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        masked = math.isqrt(free // (4 * _MASK_BYTES))
        return int(np.clip(min(free // 2 // per_token, masked), max(_SMALLEST, max_length), 65_536))
    return int(np.clip(2**31 // per_token, _SMALLEST, max(_ON_CPU, max_length)))


def _scored(model: Any, plan: ScoringPlan, device: Any, size: int) -> Iterator[tuple[PackedRow, tuple[Any, Any]]]:
    from model_wrappers.scoring.forward import Head, score_row

    head = Head(model)
    todo = list(plan.rows(size))
    while todo:
        row = todo.pop(0)
        try:
            yield row, score_row(model, head, row, [plan.targets[i] for i in row.members], device)
        except RuntimeError as error:
            if not _out_of_memory(error) or size <= _SMALLEST:
                raise
            size //= 2
            _log.warning("out of memory: %d tokens per forward pass from now on", size)
            left = np.concatenate([row.members, *(r.members for r in todo)])
            again = rows([plan.inputs[i] for i in left], [len(plan.targets[i]) for i in left], size)
            todo = sorted((_renumbered(r, left) for r in again), key=lambda r: -len(r.tokens))
            _free(device)


def _renumbered(row: PackedRow, members: Ints) -> PackedRow:
    import dataclasses

    return dataclasses.replace(row, members=members[row.members])


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _free(device: Any) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
