"""What every attention of ours has in common: its place in transformers' interface, and the check of what it is asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

__all__ = ["attending", "heads_for_queries", "not_done"]

_NEUTRAL = frozenset({"position_ids", "is_causal", "use_cache", "cache_position", "output_attentions", "head_mask"})
"""Keyword arguments of transformers' attention interface that change nothing where attention is causal."""


@contextlib.contextmanager
def attending(model: Any, name: str, attend: Callable[..., Any]) -> Iterator[None]:
    """Let ``model``, a causal LM of transformers, attend by ``attend`` inside the block; no mask is made for it.

    Args:
        model: whose configuration names its attention; what it names is restored.
        name: under which ``attend`` is registered with transformers.
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


def not_done(module: torch.nn.Module, mask: torch.Tensor | None, more: Mapping[str, Any], *known: str) -> str | None:
    """Return what a model asks its attention for beyond plain causal attention, as a sentence; None if nothing.

    Args:
        module: the model's attention.
        mask: that it passes; there should be none.
        more: its further keyword arguments.
        known: names of those that the caller heeds.
    """
    unknown = {name for name, given in more.items() if given is not None and name not in _NEUTRAL | {*known}}
    if mask is None and not unknown and getattr(module, "is_causal", True):
        return None
    return f"{type(module).__name__} asks its attention for {', '.join(sorted(unknown)) or 'a mask of its own'}"


def heads_for_queries(query: torch.Tensor, *shared: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return keys and values (1, their heads, N, d), repeated to the heads of ``query`` (1, heads, N, d)."""
    groups = query.shape[1] // shared[0].shape[1]
    return shared if groups == 1 else tuple(given.repeat_interleave(groups, dim=1) for given in shared)
