"""The forward pass of a batch in training: collating rows, shortcuts that save work, and the loss.

A flattened batch is cheaper than a padded one. For known architectures, two shortcuts make it cheaper still: attention row by
row, and a loss that never needs all logits at once. Before flattening or a shortcut is used, `flattening_is_exact` tests it on
the model.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from model_wrappers.architectures.proven import output_layer
from model_wrappers.training.attention import ROW_ENDS, attending_by_rows, can_attend_by_rows
from model_wrappers.training.batches import IGNORED_LABEL, flatten_batch, pad_batch
from model_wrappers.training.loss import handing_out_states, target_loss
from model_wrappers.training.tokenise import TokenisedRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Shortcuts", "flatten", "flattening_is_exact", "held_out_loss", "known_shortcuts", "pad", "target_count"]


def flatten(rows: Sequence[TokenisedRow]) -> dict[str, torch.Tensor]:
    """Collate by `flatten_batch`, and add the borders of rows, (rows + 1,), as ``cu_seq_lens_q``."""
    batch = {key: torch.from_numpy(value) for key, value in flatten_batch(rows).items()}
    return batch | {ROW_ENDS: torch.tensor([0] + [len(row.input_ids) for row in rows]).cumsum(0)}


def pad(pad_id: int) -> Callable[[Sequence[TokenisedRow]], dict[str, torch.Tensor]]:
    """Return a function that collates by `pad_batch`, for architectures that do not separate flattened rows."""

    def collate(rows: Sequence[TokenisedRow]) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(value) for key, value in pad_batch(rows, pad_id).items()}

    return collate


@dataclass(frozen=True)
class Shortcuts:
    """The work that a flattened batch may save: attention between rows, and the logits of the whole batch at once.

    Attributes:
        model: the model, without wrappers.
        by_rows: whether attention is computed row by row.
        layer: the output layer, if the loss multiplies with its weight chunk by chunk; else None.
    """

    model: Any
    by_rows: bool = False
    layer: torch.nn.Linear | None = None

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the model use the shortcuts inside the block."""
        with contextlib.ExitStack() as stack:
            if self.by_rows:
                stack.enter_context(attending_by_rows(self.model))
            if self.layer is not None:
                stack.enter_context(handing_out_states(self.layer))
            yield

    def states(self, model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the logits at the positions that predict targets, (targets, V).

        If ``layer`` is set, return the states before the output layer instead, (targets, d).
        """
        out = model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            logits_to_keep=batch["logit_rows"],
            use_cache=False,
            **({ROW_ENDS: batch[ROW_ENDS]} if self.by_rows else {}),
        )
        return out.logits[0]

    def loss(
        self, model: Any, batch: Mapping[str, torch.Tensor], scale: float = 1.0, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Return ``scale`` times the summed loss of the targets, nats, float32. ``dtype`` is the dtype of autocast, or None."""
        if "logit_rows" not in batch:
            out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
            labels = batch["labels"][:, 1:]
            kept = labels != IGNORED_LABEL
            return functional.cross_entropy(out.logits[:, :-1][kept].float(), labels[kept], reduction="sum") * scale
        states = self.states(model, batch)
        if self.layer is None:
            return functional.cross_entropy(states.float(), batch["targets"], reduction="sum") * scale
        return target_loss(states, self.layer.weight, batch["targets"], scale=scale, dtype=dtype)


def known_shortcuts(model: Any, rows: Sequence[TokenisedRow], *, sharded: bool) -> Shortcuts:
    """Return the shortcuts that are known for the architecture. `flattening_is_exact` then tests them on this model.

    Args:
        model: a model of transformers, also with peft's adapters.
        rows: all rows that the model will see.
        sharded: whether FSDP shards the model; then the output layer's weight is complete only while this layer runs.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    longest = max(len(row.input_ids) for row in rows)
    return Shortcuts(inner, can_attend_by_rows(inner, longest), None if sharded else output_layer(inner))


def target_count(batch: Mapping[str, torch.Tensor]) -> int:
    """Return the number of targets in a collated batch."""
    return len(batch["targets"]) if "targets" in batch else int((batch["labels"][:, 1:] != IGNORED_LABEL).sum())


def held_out_loss(
    model: Any,
    rows: Sequence[TokenisedRow],
    collate: Callable[[Sequence[TokenisedRow]], dict[str, torch.Tensor]],
    shortcuts: Shortcuts | None = None,
) -> tuple[float | None, float]:
    """Return the mean loss per target token over ``rows``, nats, and its standard error clustered by row.

    The standard error is that of a ratio estimator (sum of losses over sum of tokens). Without rows, returns (None, nan).
    """
    if not rows:
        return None, float("nan")
    sums, counts = [], []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for row in rows:
            batch = {k: v.to(model.device) for k, v in collate([row]).items()}
            sums.append(float((shortcuts or Shortcuts(model)).loss(model, batch)))
            counts.append(target_count(batch))
    model.train(was_training)
    mean = sum(sums) / sum(counts)
    n = len(sums)
    if n < 2:
        return mean, float("nan")
    residual = sum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))
    return mean, float((n / (n - 1) * residual) ** 0.5 / sum(counts))


def flattening_is_exact(model: Any, rows: Sequence[TokenisedRow], shortcuts: Shortcuts | None = None) -> bool:
    """Test whether ``model`` gives two flattened rows the logits that it gives them one by one.

    For most architectures, transformers separates the rows of a flattened batch by their ``position_ids``. For some, it
    silently does not. The first and the last row, cut to 64 tokens, are compared in float32. The tolerance is 2e-4 of the
    largest logit. This is far above rounding errors, and far below the effect of attention between rows. The flattened rows
    use ``shortcuts``.
    """
    pair = [TokenisedRow(r.input_ids[:64], r.input_ids[:64] == r.input_ids[:64]) for r in (rows[0], rows[-1])]
    shortcuts = shortcuts or Shortcuts(model)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            alone = torch.cat([_plain_target_logits(model, row) for row in pair])
            with shortcuts.in_use():
                together = shortcuts.states(model, {k: v.to(model.device) for k, v in flatten(pair).items()})
            if shortcuts.layer is not None:
                together = shortcuts.layer(together)
    except (TypeError, RuntimeError, IndexError, ValueError):
        return False
    finally:
        model.train(was_training)
    return together.shape == alone.shape and bool((together - alone).abs().max() <= 2e-4 * alone.abs().max())


def _plain_target_logits(model: Any, row: TokenisedRow) -> torch.Tensor:
    ids = torch.from_numpy(row.input_ids).long()[None].to(model.device)
    predicting = torch.from_numpy(row.target_mask[1:]).to(model.device)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, :-1][predicting]
