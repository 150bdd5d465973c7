"""Attention over a flattened batch on a CPU, row by row.

transformers separates the rows of a flattened batch with a mask over all pairs of tokens, and the mask excludes most pairs.
Here, PyTorch's causal kernel runs once per row, without a mask. The time is linear in the number of rows.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from model_wrappers.architectures.attention import attending, heads_for_queries, unsupported
from model_wrappers.architectures.proven import why_unproven

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAME", "ROW_ENDS", "attending_by_rows", "can_attend_by_rows"]

NAME = "overtrain_rows"
ROW_ENDS = "cu_seq_lens_q"
"""The keyword argument in which transformers passes the borders of rows, (rows + 1,), from a model to its attention."""


def can_attend_by_rows(model: Any, longest: int) -> bool:
    """Return whether ``model`` is known to use plain causal attention in rows of up to ``longest`` tokens.

    Args:
        model: a model of transformers, without a wrapper.
        longest: tokens of the longest row. A shorter sliding window would be more than plain causal attention.
    """
    window = getattr(model.config, "sliding_window", None)
    return model.device.type == "cpu" and why_unproven(model) is None and (window is None or window >= longest)


@contextlib.contextmanager
def attending_by_rows(model: Any) -> Iterator[None]:
    """Let ``model`` compute attention row by row inside the block. Every forward then needs the argument `ROW_ENDS`."""
    with attending(model, NAME, _attend):
        yield


def _attend(  # noqa: PLR0917  (transformers' interface)
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention in transformers' interface: query (1, heads, N, d), key and value (1, key heads, N, d).

    Returns:
        (1, N, heads, d), and None for the weights.

    Raises:
        ValueError: the borders of rows are missing, or the model asks for more than plain causal attention.
    """
    ends = more.get(ROW_ENDS)
    wanted = unsupported(module, attention_mask, more, ROW_ENDS)
    if wanted or ends is None:
        raise ValueError(wanted or f"{type(module).__name__} does not hand {ROW_ENDS} to its attention")
    lengths = ends.diff().tolist()
    if query.shape[0] != 1 or query.shape[2] != sum(lengths) or key.shape[2] != query.shape[2]:
        raise ValueError(f"{type(module).__name__} attends to other keys than the batch's")
    if sliding_window is not None and max(lengths) > sliding_window:
        raise ValueError(f"a row of {max(lengths)} tokens is over the sliding window of {sliding_window}")
    key, value = heads_for_queries(query, key, value)
    # The backward of split is one concatenation. The backward of each slice would fill a tensor of the whole size with zeros.
    pieces = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    rows = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling).transpose(1, 2)
        for q, k, v in pieces
    ]
    return torch.cat(rows, dim=1), None
