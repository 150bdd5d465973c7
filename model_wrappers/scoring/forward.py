"""The forward pass of a row of prefixes: hidden states once per node, and logits only where a token is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model_wrappers.architectures.proven import output_layer
from model_wrappers.scoring.attention import scoring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_wrappers.scoring.forest import PackedRow, Tokens

__all__ = ["Head", "score_row"]

_LOGITS = 2**26
"""Largest number of entries in a chunk of logits: 256 MiB in fp32."""


class Head:
    """The output layer of a model. On a CPU, all calls write into one buffer, because new memory for every pass costs time.

    Args:
        model: a causal LM of transformers.

    Attributes:
        step: largest number of states per call.
    """

    def __init__(self, model: Any) -> None:
        self._layer = model.get_output_embeddings()
        weight = self._layer.weight
        self._plain = weight.dtype == torch.float32 and weight.device.type == "cpu" and output_layer(model) is not None
        self._buffer = weight.new_empty(0)
        self.step = max(_LOGITS // int(weight.shape[0]), 1)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Return the fp32 logits (R, vocabulary) of ``states`` (R, d). The next call overwrites them."""
        if not self._plain:
            logits: torch.Tensor = self._layer(states).float()
            return logits
        weight = self._layer.weight
        size = len(states) * len(weight)
        if len(self._buffer) < size:
            self._buffer = weight.new_empty(size)
        return torch.mm(states, weight.t(), out=self._buffer[:size].view(len(states), len(weight)))


def score_row(
    model: Any, head: Head, row: PackedRow, targets: Sequence[Tokens], device: torch.device
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return, per member of ``row``, the log-likelihood (nats) and whether every token is the most likely one.

    Args:
        model: a causal LM of transformers, in evaluation mode.
        head: the model's output layer.
        row: the row; logits are computed for the nodes in `PackedRow.paths`.
        targets: the tokens that follow these nodes, per member.
        device: the model's device.

    Raises:
        Unproven: the model's attention is not plain.
    """
    nodes = np.concatenate(row.paths)
    tokens = torch.from_numpy(np.concatenate(targets)).long().to(device)
    read, place = np.unique(nodes, return_inverse=True)
    with torch.inference_mode(), scoring(model, row, device, read):
        states = model.base_model(
            input_ids=torch.from_numpy(row.tokens).long()[None].to(device),
            position_ids=torch.from_numpy(row.depth)[None].to(device),
            use_cache=False,
        ).last_hidden_state[0]  # (N, d)
        states = states[torch.from_numpy(read).to(device)]
    values, best = _read(head, states, tokens, torch.from_numpy(place).to(device))
    lengths = np.array([len(path) for path in row.paths])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.add.reduceat(values, starts), np.logical_and.reduceat(best, starts)


def _read(
    head: Head, states: torch.Tensor, tokens: torch.Tensor, place: torch.Tensor
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return each token's log-probability given its state, and whether it is the greedy choice.

    Args:
        head: the output layer.
        states: final states of the nodes that are read, shape (R, d).
        tokens: the scored tokens, shape (T,).
        place: index of each token's state, shape (T,).
    """
    order = torch.argsort(place, stable=True)
    sorted_place = place[order]
    values = torch.empty(len(tokens), dtype=torch.float32, device=states.device)
    best = torch.empty(len(tokens), dtype=torch.bool, device=states.device)
    with torch.inference_mode():
        for start in range(0, len(states), head.step):
            logits = head(states[start : start + head.step])
            low, high = torch.searchsorted(
                sorted_place, torch.tensor([start, start + len(logits)], device=place.device)
            )
            mine = order[int(low) : int(high)]
            own, token = place[mine] - start, tokens[mine]
            wanted = logits[own, token]
            top = logits.amax(dim=-1, keepdim=True)
            first = wanted == top[own, 0]
            if bool(first.any()):  # several tokens may have the largest logit; the greedy choice is the first of them
                first[first.clone()] = logits[own[first]].argmax(dim=-1) == token[first]
            total = logits.sub_(top).exp_().sum(dim=-1).log_().add_(top[:, 0])
            values[mine], best[mine] = wanted - total[own], first
    return values.double().cpu().numpy(), best.cpu().numpy()
