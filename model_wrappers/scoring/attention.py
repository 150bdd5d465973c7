"""The attention of a model while a row of prefixes is scored. It is registered with transformers under its own name.

On a CPU, it calls PyTorch's attention block by block. On CUDA, it is one call of FlexAttention, whose kernel skips the pairs of
tokens that the mask excludes.
"""

from __future__ import annotations

import contextlib
import functools
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from model_wrappers.architectures.attention import attending, heads_for_queries, unsupported
from model_wrappers.scoring.blocks import blocks, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model_wrappers.scoring.blocks import AttentionBlock
    from model_wrappers.scoring.forest import Ints, PackedRow

__all__ = ["NAME", "Unproven", "attention_alone", "by_token", "last_layer", "scoring"]

NAME = "overtrain_prefixes"
_FLEX = ("cuda",)
"""Types of devices on which FlexAttention is compiled."""


class Unproven(Exception):  # noqa: N818  (it is no error: the plain path takes over)
    """The model asks its attention for something that this attention does not support."""


@dataclass
class _RowInModel:
    """A row during its forward pass, with its masks, which are made when they are first needed.

    Attributes:
        row: the row; its nodes are the tokens of the pass.
        device: the model's device.
        masks: masks and blocks that were made so far.
        read: nodes whose final states are read, ascending. For other nodes, the last layer computes only keys and values.
        last: ids of the modules of the last layer.
    """

    row: PackedRow
    device: torch.device
    masks: dict[Any, Any] = field(default_factory=dict)
    read: Ints | None = None
    last: frozenset[int] = frozenset()

    def blocks(self) -> list[tuple[AttentionBlock, Any]]:
        """Return the blocks, each with its keys as a slice or as an index tensor."""
        if "blocks" not in self.masks:
            self.masks["blocks"] = [(b, self._keys(b)) for b in blocks(self.row)]
        return list(self.masks["blocks"])

    def _keys(self, block: AttentionBlock) -> Any:
        keys = block.keys
        if int(keys[-1]) - int(keys[0]) + 1 == len(keys):
            return slice(int(keys[0]), int(keys[-1]) + 1)
        return torch.from_numpy(keys).to(self.device)

    def mask(self, number: int, block: AttentionBlock, window: int | None, dtype: torch.dtype) -> torch.Tensor | None:
        """Return a mask that is 0 if a query sees a key, else minus infinity; None if the block is plainly causal."""
        narrow = window is not None and int(self.row.depth[block.start : block.stop].max()) >= window
        if block.causal and len(block.keys) == block.stop - block.start and not narrow:
            return None
        key = (number, window if narrow else None, dtype)
        if key not in self.masks:
            seen = torch.from_numpy(visible(self.row, block, window if narrow else None))
            mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
            self.masks[key] = mask.to(self.device)
        return self.masks[key]

    def read_blocks(self, window: int | None, dtype: torch.dtype) -> list[tuple[torch.Tensor, Any, torch.Tensor]]:
        """Return (nodes that are read, keys, mask) for each block that contains nodes that are read."""
        key = ("read", window, dtype)
        if key not in self.masks:
            assert self.read is not None
            made = []
            for block, keys in self.blocks():
                mine = self.read[(self.read >= block.start) & (self.read < block.stop)]
                if len(mine):
                    seen = torch.from_numpy(visible(self.row, block, window)[mine - block.start])
                    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
                    made.append((torch.from_numpy(mine).to(self.device), keys, mask.to(self.device)))
            self.masks[key] = made
        return list(self.masks[key])

    def flex(self, window: int | None) -> Any:
        """Return FlexAttention's block mask."""
        from torch.nn.attention.flex_attention import create_block_mask

        if ("flex", window) not in self.masks:
            end = torch.from_numpy(self.row.end).to(self.device)
            depth = torch.from_numpy(self.row.depth).to(self.device)

            def sees(_b: Any, _h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
                seen = (k <= q) & (q < end[k])
                return seen if window is None else seen & (depth[k] > depth[q] - window)

            count = len(self.row.end)
            self.masks["flex", window] = create_block_mask(sees, None, None, count, count, device=str(self.device))
        return self.masks["flex", window]


_current: ContextVar[_RowInModel | None] = ContextVar("overtrain_row", default=None)


@contextlib.contextmanager
def scoring(model: Any, row: PackedRow, device: torch.device, read: Ints) -> Iterator[None]:
    """Let ``model`` use this attention over ``row`` inside the block. Its own attention is restored afterwards.

    Args:
        model: a causal LM of transformers.
        row: the row; its nodes are the tokens of the pass.
        device: the model's device.
        read: nodes whose final states are read, ascending. The final states of all other nodes are meaningless.
    """
    layer = last_layer(model)
    thin = 2 * len(read) < len(row.tokens)
    last = frozenset(id(module) for module in layer.modules()) if thin else frozenset()
    parts = by_token(layer) if thin else []
    kept = torch.from_numpy(read).to(device)
    held = _current.set(_RowInModel(row, device, read=read, last=last))
    for part in parts:
        part.forward = functools.partial(_only, part.forward, kept)
    try:
        with attending(model, NAME, _attend):
            yield
    finally:
        for part in parts:
            del part.forward
        _current.reset(held)


def last_layer(model: Any) -> torch.nn.Module:
    """Return the last decoder layer of a causal LM of transformers.

    Raises:
        Unproven: the model has no list with the configuration's number of layers.
    """
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return module[-1]
    raise Unproven(f"{type(model).__name__} has no list of {model.config.num_hidden_layers} layers")


_BY_TOKEN = ("mlp", "self_attn.o_proj", "self_attn.dense", "attention.dense", "attn.c_proj")


def by_token(layer: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the parts of a layer that process every token separately, by their names in the proven architectures."""
    named = dict(layer.named_modules())
    return [named[name] for name in _BY_TOKEN if name in named]


def _only(forward: Callable[[torch.Tensor], torch.Tensor], kept: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Run a part of the last layer only for the nodes that are read; return zeros for all other nodes."""
    found = forward(states[:, kept])
    out = found.new_zeros((*states.shape[:2], found.shape[-1]))
    out[:, kept] = found
    return out


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
        Unproven: the model passes a mask, dropout or an argument (soft-capping, sinks, biases) that changes attention.
    """
    now = _current.get()
    wanted = unsupported(module, attention_mask, more)
    if wanted or dropout or now is None:
        raise Unproven(wanted or f"{type(module).__name__} asks its attention for dropout")
    if query.shape[0] != 1 or query.shape[2] != len(now.row.end) or key.shape[2] != query.shape[2]:
        raise Unproven(f"{type(module).__name__} attends to other keys than the row's")
    if query.device.type in _FLEX:
        return _flex(query, key, value, scaling, now.flex(sliding_window)), None
    key, value = heads_for_queries(query, key, value)
    if id(module) in now.last:
        out = torch.zeros_like(query)
        for chosen, keys, seen in now.read_blocks(sliding_window, query.dtype):
            out[:, :, chosen] = scaled_dot_product_attention(
                query[:, :, chosen], key[:, :, keys], value[:, :, keys], attn_mask=seen, scale=scaling
            )
        return out.transpose(1, 2).contiguous(), None
    out = torch.empty_like(query)
    for number, (block, keys) in enumerate(now.blocks()):
        mask = now.mask(number, block, sliding_window, query.dtype)
        out[:, :, block.start : block.stop] = scaled_dot_product_attention(
            query[:, :, block.start : block.stop],
            key[:, :, keys],
            value[:, :, keys],
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
        )
    return out.transpose(1, 2).contiguous(), None


def attention_alone(row: PackedRow, read: Ints, states: torch.Tensor, layers: int) -> None:
    """Run only the attention of ``row``, once per layer of a model. Benchmarks compute a lower bound of the time from it.

    Args:
        row: the row to run.
        read: nodes whose final states are read.
        states: used as queries, keys and values, shape (1, heads, N, d).
        layers: number of layers.
    """
    layer, last = torch.nn.Identity(), torch.nn.Identity()
    thin = frozenset({id(last)}) if 2 * len(read) < len(row.tokens) else frozenset()
    held = _current.set(_RowInModel(row, states.device, read=read, last=thin))
    try:
        for number in range(layers):
            _attend(last if number == layers - 1 else layer, states, states, states, None)
    finally:
        _current.reset(held)


def _flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, mask: Any
) -> torch.Tensor:
    """Compute attention with compiled FlexAttention.

    Raises:
        Unproven: FlexAttention cannot be compiled or launched: no C compiler, no Triton, an unknown shape or device. The first
            call compiles it, and the libraries involved raise many kinds of errors.
        OutOfMemoryError: memory ran out, as in any kernel.
    """
    grouped = query.shape[1] != key.shape[1]
    try:
        out: torch.Tensor = _compiled()(query, key, value, block_mask=mask, scale=scaling, enable_gqa=grouped)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise Unproven(
            f"FlexAttention could not be compiled on {query.device.type} ({type(error).__name__}: {reason})"
        ) from error
    return out.transpose(1, 2).contiguous()


@functools.cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)
