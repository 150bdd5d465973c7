"""Attention over a flattened batch on a CPU, row by row.

transformers keeps the rows of a flattened batch apart by a mask over all pairs of its tokens, most of which it rules out.
Here each row attends to itself by PyTorch's causal kernel, without a mask: linear in the number of rows.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from model_wrappers.scoring.proven import why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAME", "ROW_ENDS", "attending_by_rows", "can_attend_by_rows"]

NAME = "overtrain_rows"
ROW_ENDS = "cu_seq_lens_q"
"""The keyword argument by which transformers hands the borders of rows, (rows + 1,), from a model to its attention."""

_KNOWN = frozenset(
    {"position_ids", "is_causal", "use_cache", "cache_position", "output_attentions", "head_mask", ROW_ENDS}
)
"""Keyword arguments of transformers' attention interface that change nothing here."""


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
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


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
    unknown = {name for name, given in more.items() if given is not None and name not in _KNOWN}
    ends = more.get(ROW_ENDS)
    if ends is None or attention_mask is not None or unknown or not getattr(module, "is_causal", True):
        raise ValueError(
            f"{type(module).__name__} asks its attention for {', '.join(sorted(unknown)) or 'a mask of its own'}"
        )
    lengths = ends.diff().tolist()
    if query.shape[0] != 1 or query.shape[2] != sum(lengths) or key.shape[2] != query.shape[2]:
        raise ValueError(f"{type(module).__name__} attends to other keys than the batch's")
    if sliding_window is not None and max(lengths) > sliding_window:
        raise ValueError(f"a row of {max(lengths)} tokens is over the sliding window of {sliding_window}")
    heads = query.shape[1] // key.shape[1]
    if heads > 1:
        key, value = key.repeat_interleave(heads, dim=1), value.repeat_interleave(heads, dim=1)
    # split, not slices: its backward is one concatenation, that of a slice a zeroed tensor of the whole size
    pieces = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    rows = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling).transpose(1, 2)
        for q, k, v in pieces
    ]
    return torch.cat(rows, dim=1), None
