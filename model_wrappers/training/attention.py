"""Attention over a flattened batch on a CPU, row by row.

transformers keeps the rows of a flattened batch apart by a mask over all pairs of its tokens, most of which it rules out.
Here each row attends to itself by PyTorch's causal kernel, without a mask: linear in the number of rows.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from model_wrappers.architectures.attention import attending, heads_for_queries, not_done
from model_wrappers.architectures.proven import why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAME", "ROW_ENDS", "attending_by_rows", "can_attend_by_rows"]

NAME = "overtrain_rows"
ROW_ENDS = "cu_seq_lens_q"
"""The keyword argument by which transformers hands the borders of rows, (rows + 1,), from a model to its attention."""


def can_attend_by_rows(model: Any, longest: int) -> bool:
    """Tell whether ``model`` is known to attend causally within rows of up to ``longest`` tokens, and nothing else.

    Args:
        model: of transformers, without a wrapper.
        longest: tokens; a sliding window below it would cut what a row attends to.
    """
    window = getattr(model.config, "sliding_window", None)
    return model.device.type == "cpu" and why_not(model) is None and (window is None or window >= longest)


@contextlib.contextmanager
def attending_by_rows(model: Any) -> Iterator[None]:
    """Let ``model`` attend row by row inside the block; it then needs the argument `ROW_ENDS` in every forward."""
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
    """Attend as transformers' interface has it: query (1, heads, N, d), key and value (1, their heads, N, d).

    Returns:
        (1, N, heads, d), and None for the weights.

    Raises:
        ValueError: the borders of rows are missing, or the model asks for something that this attention does not do.
    """
    ends = more.get(ROW_ENDS)
    wanted = not_done(module, attention_mask, more, ROW_ENDS)
    if wanted or ends is None:
        raise ValueError(wanted or f"{type(module).__name__} does not hand {ROW_ENDS} to its attention")
    lengths = ends.diff().tolist()
    if query.shape[0] != 1 or query.shape[2] != sum(lengths) or key.shape[2] != query.shape[2]:
        raise ValueError(f"{type(module).__name__} attends to other keys than the batch's")
    if sliding_window is not None and max(lengths) > sliding_window:
        raise ValueError(f"a row of {max(lengths)} tokens is over the sliding window of {sliding_window}")
    key, value = heads_for_queries(query, key, value)
    # split, not slices: its backward is one concatenation, that of a slice a zeroed tensor of the whole size
    pieces = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    rows = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling).transpose(1, 2)
        for q, k, v in pieces
    ]
    return torch.cat(rows, dim=1), None
