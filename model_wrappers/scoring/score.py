"""Log-likelihoods of many requests at the cost of their distinct tokens.

Source: lm-eval 0.4.13, ``HFLM._loglikelihood_tokens``, for what is scored and how it is truncated. The log-sum-exp is taken
in fp32 whatever the model's dtype (deviation: lm-eval takes it in the model's).
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from model_wrappers.scoring.forest import rows
from model_wrappers.scoring.tokens import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from model_wrappers.scoring.forest import Ints, Row, Tokens

__all__ = ["Plan", "budget", "score"]

_log = logging.getLogger(__name__)
_SMALLEST = 256
_ON_CPU = 2048


class Plan:
    """What a list of requests comes to: distinct sequences, what is read of each, and the rows that they are packed into.

    Args:
        requests: as token ids.
        max_length: of the model's context, in tokens; what is longer loses its beginning.

    Attributes:
        inputs: tokens that the model reads, per distinct request.
        targets: tokens whose probability is asked, per distinct request; the last of them the model does not read.
        scored: how many tokens are scored, per distinct request; one that is 0 or more than a context cannot be scored.
        of_request: index of the distinct request that each request is.
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
        self._packed: dict[int, list[Row]] = {}

    @property
    def bytes(self) -> int:
        """What the tokens and their rows take, approximately."""
        return sum(4 * len(tokens) + 300 for tokens in self.inputs) * 3

    @property
    def longest(self) -> int:
        """Tokens that the model reads of the longest request."""
        return max(map(len, self.inputs), default=0)

    def sample(self) -> list[Request]:
        """Return the longest, the shortest and the median request with up to three neighbours of each: often its choices."""
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

    def rows(self, size: int) -> list[Row]:
        """Return the rows of at most ``size`` tokens, the largest first: too little memory shows at once."""
        if size not in self._packed:
            found = list(rows(self.inputs, [len(t) for t in self.targets], size))
            self._packed = {size: sorted(found, key=lambda row: -len(row.tokens))}
        return self._packed[size]


def score(
    model: Any, plan: Plan, device: Any, size: int, on_row: Callable[[int], None] = lambda _: None
) -> list[tuple[float, bool]]:
    """Return (log-likelihood in nats, whether greedy) per request of ``plan``.

    Args:
        model: a causal LM of transformers that `model_wrappers.architectures.proven` does not object to.
        plan: the requests.
        device: of the model.
        size: tokens per forward pass; halved when memory does not suffice.
        on_row: called with the number of distinct requests that each pass has scored.

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
    """Return how many tokens a forward pass takes: what half of the free memory holds, at least one context.

    Per token the passes of a decoder hold a few copies of the hidden state and of the widest layer at a time. On a CPU more
    than 2,048 tokens only leave its caches.
    """
    import torch

    config = model.config
    wide = max(int(getattr(config, "intermediate_size", None) or 0), 4 * int(config.hidden_size))
    per_token = (8 * int(config.hidden_size) + 3 * wide) * model.dtype.itemsize
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(np.clip(free // 2 // per_token, max(_SMALLEST, max_length), 65_536))
    return int(np.clip(2**31 // per_token, _SMALLEST, max(_ON_CPU, max_length)))


def _scored(model: Any, plan: Plan, device: Any, size: int) -> Iterator[tuple[Row, tuple[Any, Any]]]:
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


def _renumbered(row: Row, members: Ints) -> Row:
    import dataclasses

    return dataclasses.replace(row, members=members[row.members])


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _free(device: Any) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
