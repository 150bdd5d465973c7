"""The common parts of our attention functions: use them in a model, and check that they compute what the model asks for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

__all__ = ["attending", "heads_for_queries", "unsupported"]

_NEUTRAL = frozenset({"position_ids", "is_causal", "use_cache", "cache_position", "output_attentions", "head_mask"})
"""Keyword arguments of transformers' attention interface that change nothing where attention is causal."""


@contextlib.contextmanager
def attending(model: Any, name: str, attend: Callable[..., Any]) -> Iterator[None]:
    """Let ``model``, a causal LM of transformers, compute attention with ``attend`` inside the block, without a mask.

    Args:
        model: the model; its own attention is restored after the block.
        name: name under which ``attend`` is registered with transformers.
        attend: a function of transformers' attention interface.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, lambda *_, **__: None)
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def unsupported(module: torch.nn.Module, mask: torch.Tensor | None, more: Mapping[str, Any], *known: str) -> str | None:
    """Return, as a sentence, what a model asks of its attention beyond plain causal attention; None if nothing.

    Args:
        module: the model's attention module.
        mask: the mask that the model passes; there should be none.
        more: further keyword arguments that the model passes.
        known: names of the keyword arguments that the caller supports.
    """
    unknown = {name for name, given in more.items() if given is not None and name not in _NEUTRAL | {*known}}
    if mask is None and not unknown and getattr(module, "is_causal", True):
        return None
    return f"{type(module).__name__} asks its attention for {', '.join(sorted(unknown)) or 'a mask of its own'}"


def heads_for_queries(query: torch.Tensor, *shared: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return keys and values, (1, key heads, N, d), repeated to the number of heads of ``query``, (1, heads, N, d)."""
    groups = query.shape[1] // shared[0].shape[1]
    return shared if groups == 1 else tuple(given.repeat_interleave(groups, dim=1) for given in shared)
