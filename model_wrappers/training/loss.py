"""Cross-entropy of target tokens in chunks, so that the logits of a whole batch never exist at once.

Inside `handing_out_states`, a model returns the inputs of its output layer instead of logits. `target_loss` multiplies them
with the layer's weight chunk by chunk. The gradients are computed together with the loss, while a chunk's probabilities exist.
So only the gradients are kept for the backward, and nothing is computed twice.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["handing_out_states", "target_loss"]

_CHUNK_BYTES = {"cpu": 64 << 20}
_CHUNK_BYTES_ELSEWHERE = 512 << 20
_CACHED_BYTES = {"cpu": 4 << 20}
"""Bytes that the softmax processes at a time. On a CPU, a larger piece would not fit into the cache."""


@contextlib.contextmanager
def handing_out_states(layer: torch.nn.Linear) -> Iterator[None]:
    """Let ``layer`` return its input inside the block. Its weight does not change."""
    layer.forward = lambda states: states  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del layer.forward


def target_loss(
    states: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    scale: float = 1.0,
    dtype: torch.dtype | None = None,
    chunk: int | None = None,
) -> torch.Tensor:
    """Return ``scale`` times the summed cross-entropy, nats, of ``targets`` under the logits ``states @ weight.T``.

    Args:
        states: (K, d), float.
        weight: (V, d), float; its gradient is computed only if it requires one.
        targets: (K,), int64.
        scale: factor of loss and gradients.
        dtype: dtype of the matrix products in forward and backward; by default the dtype of ``weight``. The log-sum-exp and
            the sums over chunks have at least float32.
        chunk: number of rows whose logits exist at a time; by default as many as fit into 64 MiB, or 512 MiB on an accelerator.

    Returns:
        A scalar, float32 at least.
    """
    if chunk is None:
        chunk = max(1, _CHUNK_BYTES.get(states.device.type, _CHUNK_BYTES_ELSEWHERE) // (4 * weight.shape[0]))
    with torch.autocast(states.device.type, enabled=False):
        loss: torch.Tensor = _TargetLoss.apply(states, weight, targets, scale, dtype or weight.dtype, chunk)
    return loss


class _TargetLoss(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  (autograd takes no keywords)
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        scale: float,
        dtype: torch.dtype,
        chunk: int,
    ) -> torch.Tensor:
        precise = torch.promote_types(weight.dtype, torch.float32)
        for_states, for_weight = ctx.needs_input_grad[:2]
        states_grad = torch.empty_like(states) if for_states else None
        weight_grad = torch.zeros_like(weight, dtype=precise) if for_weight else None
        cast = weight.to(dtype)
        total = torch.zeros((), dtype=precise, device=states.device)
        # All chunks share one buffer, because new memory of this size causes page faults on a CPU.
        rows = min(chunk, len(states))
        logits = torch.empty(rows, len(weight), dtype=dtype, device=states.device)
        step = max(1, _CACHED_BYTES.get(states.device.type, _CHUNK_BYTES_ELSEWHERE) // (4 * len(weight)))
        logs = torch.empty(min(step, rows), len(weight), dtype=precise, device=states.device)
        for start in range(0, len(states), chunk):
            part = slice(start, start + chunk)
            piece, wanted = states[part].to(dtype), targets[part, None]
            gradient = torch.mm(
                piece, cast.T, out=logits[: len(piece)]
            )  # still logits; overwritten by their gradient below
            for block, asked in zip(gradient.split(step), wanted.split(step), strict=True):
                found = torch.log_softmax(block, -1, dtype=precise, out=logs[: len(block)])
                total -= found.gather(1, asked).sum()
                if for_states or for_weight:  # the gradient of the logits: the probabilities, minus one at the target
                    block.copy_(found.exp_().scatter_add_(1, asked, found.new_full(asked.shape, -1.0)))
            if states_grad is not None:
                states_grad[part] = (gradient @ cast).mul_(scale)
            if weight_grad is not None and dtype == precise:
                weight_grad.addmm_(gradient.T, piece, alpha=scale)
            elif weight_grad is not None:
                weight_grad.add_(gradient.T @ piece, alpha=scale)
        ctx.save_for_backward(states_grad, None if weight_grad is None else weight_grad.to(weight.dtype))
        return total.mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In training, the outer gradient is 1. Then skip the product, which would copy a gradient as large as the weight.
        whole = bool(outer == 1)
        found = [g if g is None or whole else (g * outer).to(g.dtype) for g in ctx.saved_tensors]
        return *found, None, None, None, None
