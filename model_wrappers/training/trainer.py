"""The one training loop: transformers' ``Trainer`` over flattened rows, with the loss on target tokens alone.

Full and LoRA fine-tuning hand it a model in float32, tokenised rows and a `Schedule`; it returns the trained model and
what was measured. One process, ``torchrun`` and FSDP take the same path.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch.nn import functional
from transformers import Trainer, TrainingArguments

from model_wrappers.errors import ConfigError
from model_wrappers.processes import world
from model_wrappers.training.batches import IGNORED_LABEL, flatten_batch, pad_batch
from model_wrappers.training.tokenise import TokenisedRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

__all__ = ["Schedule", "Trained", "distances", "flattening_is_exact", "held_out_loss", "split_batch", "train"]

log = logging.getLogger(__name__)

SCHEDULES = Literal["cosine", "constant", "constant_with_warmup", "linear"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How to optimise; names and units as in `model_wrappers.modifications.finetune.FineTune`."""

    learning_rate: float
    lr_scheduler: str
    warmup_steps: int
    warmup_ratio: float
    weight_decay: float
    epochs: float
    max_steps: int | None
    train_batch_size: int
    micro_batch_size: int | None
    max_grad_norm: float
    l2_to_init: float
    precision: str
    gradient_checkpointing: bool
    fsdp: bool
    resume_every: int
    seed: int


class Trained(NamedTuple):
    """The trained model, flat metrics, and the log: one entry per optimiser step with loss, learning rate and gradient norm."""

    model: PreTrainedModel
    metrics: dict[str, float]
    log: list[dict[str, float]]


def split_batch(
    train_batch_size: int, micro_batch_size: int | None, processes: int, *, fitting_rows: int = 8
) -> tuple[int, int]:
    """Return (rows per forward and process, forwards per optimiser step) whose product over processes is the batch.

    Without a ``micro_batch_size`` it is the largest that divides and has no more than ``fitting_rows`` rows.

    >>> split_batch(256, None, 2)
    (8, 16)
    >>> split_batch(6, 3, 1)
    (3, 2)

    Raises:
        ConfigError: the global batch cannot be divided so.
    """
    if train_batch_size % processes:
        raise ConfigError(
            f"train_batch_size={train_batch_size}: must be a multiple of the {processes} processes; use "
            f"{(train_batch_size // processes + 1) * processes} or another number of processes"
        )
    share = train_batch_size // processes
    micro = micro_batch_size or max(m for m in range(1, max(1, fitting_rows) + 1) if share % m == 0)
    if share % micro:
        fitting = [m for m in range(1, share + 1) if share % m == 0]
        raise ConfigError(
            f"micro_batch_size={micro}: must divide the {share} rows that each of {processes} process(es) gets of "
            f"train_batch_size={train_batch_size}; allowed: {', '.join(map(str, fitting))}"
        )
    return micro, share // micro


class _Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, rows: Sequence[TokenisedRow]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TokenisedRow:
        return self.rows[index]


def _flatten(rows: Sequence[TokenisedRow]) -> dict[str, torch.Tensor]:
    """Collate by concatenation: (1, total) ids, positions from 0 per row, the rows of logits that predict targets."""
    return {key: torch.from_numpy(value) for key, value in flatten_batch(rows).items()}


def _pad(pad_id: int) -> Callable[[Sequence[TokenisedRow]], dict[str, torch.Tensor]]:
    """Collate by padding, for architectures that do not isolate flattened rows: (B, T) ids, mask and labels."""

    def collate(rows: Sequence[TokenisedRow]) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(value) for key, value in pad_batch(rows, pad_id).items()}

    return collate


def _target_losses(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss of every target token, nats, float32, shape (targets,)."""
    if "logit_rows" in batch:
        out = model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            logits_to_keep=batch["logit_rows"],
            use_cache=False,
        )
        return functional.cross_entropy(out.logits[0].float(), batch["targets"], reduction="none")
    out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    labels = batch["labels"][:, 1:]
    kept = labels != IGNORED_LABEL
    return functional.cross_entropy(out.logits[:, :-1][kept].float(), labels[kept], reduction="none")


def _target_count(batch: Mapping[str, torch.Tensor]) -> int:
    return len(batch["targets"]) if "targets" in batch else int((batch["labels"][:, 1:] != IGNORED_LABEL).sum())


class _Trainer(Trainer):
    """Token-mean loss over the whole global batch, plus ``l2_to_init * ||theta - theta_0||^2``."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, anchor: dict[str, torch.Tensor], l2_to_init: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._anchor, self._l2 = anchor, l2_to_init

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(_target_count(b) for b in batches), device=device)
        return batches, self.accelerator.gather(count).sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        assert not return_outputs
        loss = _target_losses(model, inputs).sum() / num_items_in_batch
        loss = (
            loss * self.accelerator.num_processes
        )  # gradients are averaged over processes, tokens were counted over all
        if self._l2:
            inner = self.accelerator.unwrap_model(model)
            penalty = sum((p - self._anchor[n]).square().sum() for n, p in inner.named_parameters())
            loss = loss + self._l2 * penalty / self.current_gradient_accumulation_steps
        return loss


def train(
    model: PreTrainedModel,
    rows: Sequence[TokenisedRow],
    validation: Sequence[TokenisedRow],
    schedule: Schedule,
    *,
    pad_id: int,
    work: Path,
) -> Trained:
    """Train ``model`` in place on ``rows`` and return it with what was measured.

    Args:
        model: float32 parameters; those without ``requires_grad`` stay.
        rows: training rows.
        validation: rows that are only scored, before and after.
        schedule: optimiser, batch and length of training.
        pad_id: for the padded path.
        work: folder for resumable states; a whole state found there is resumed from, with the same outcome.

    Raises:
        ConfigError: the global batch does not divide, FSDP without an accelerator, ``l2_to_init`` under FSDP.
    """
    _, processes = world()
    # Attention over a flattened batch is quadratic in its tokens: small forwards win on a CPU, large ones on a GPU.
    mean_length = sum(len(row.input_ids) for row in rows) / len(rows)
    fitting = int((512 if model.device.type == "cpu" else 8192) / mean_length)
    micro, accumulate = split_batch(
        schedule.train_batch_size, schedule.micro_batch_size, processes, fitting_rows=fitting
    )
    flat = flattening_is_exact(model, rows)
    if not flat:
        log.warning("%s does not isolate flattened rows: padding instead", type(model).__name__)
    collate = _flatten if flat else _pad(pad_id)
    before = held_out_loss(model, validation, collate)
    anchor = {n: p.detach().clone() for n, p in model.named_parameters()} if schedule.l2_to_init else {}
    trainer = _Trainer(
        model=model,
        args=_arguments(model, schedule, micro, accumulate, work),
        train_dataset=_Rows(rows),
        data_collator=collate,
        anchor=anchor,
        l2_to_init=schedule.l2_to_init,
    )
    outcome = trainer.train(resume_from_checkpoint=_last_whole_state(work))
    trained = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    trained.eval()
    after = held_out_loss(trained, validation, collate)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    metrics = {"train_loss": float(outcome.training_loss), "train_steps": float(outcome.global_step)}
    if history:
        metrics["train_loss_last"] = float(history[-1]["loss"])
    for name, (value, stderr) in {"validation_loss_before": before, "validation_loss": after}.items():
        if value is not None:
            metrics[name] = value
            metrics[f"{name}_stderr"] = stderr
    return Trained(trained, metrics, history)


def _arguments(model: PreTrainedModel, s: Schedule, micro: int, accumulate: int, work: Path) -> TrainingArguments:
    on_cpu = model.device.type == "cpu"
    if s.fsdp and on_cpu:
        raise ConfigError(
            "fsdp=true: needs accelerators, and transformers would silently run DDP on a CPU; leave it out"
        )
    if s.fsdp and s.l2_to_init:
        raise ConfigError(
            "l2_to_init with fsdp=true: the sharded weights cannot be compared with theta_0; use one of them"
        )
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        learning_rate=s.learning_rate,
        lr_scheduler_type=s.lr_scheduler,
        warmup_steps=s.warmup_ratio or s.warmup_steps,
        weight_decay=s.weight_decay,
        num_train_epochs=s.epochs,
        max_steps=-1 if s.max_steps is None else s.max_steps,
        max_grad_norm=s.max_grad_norm,
        bf16=s.precision == "bf16",
        fsdp=s.fsdp or None,
        seed=s.seed,
        data_seed=s.seed,
        use_cpu=on_cpu,
        optim="adamw_torch" if on_cpu else "adamw_torch_fused",
        remove_unused_columns=False,
        report_to="none",
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="steps" if s.resume_every else "no",
        save_steps=s.resume_every or 500,
        save_total_limit=2,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=world()[0] != 0,
        ddp_find_unused_parameters=False,
        **({_RECOMPUTE: True} if s.gradient_checkpointing else {}),
    )


# transformers 5.23 renamed the argument and warns of the old name
_RECOMPUTE = next(
    n for n in ("activation_checkpointing", "gradient_checkpointing") if n in TrainingArguments.__dataclass_fields__
)


def _last_whole_state(work: Path) -> str | None:
    """Return the newest state in ``work`` that was written to its end; a kill may have cut the newest one short."""
    states = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    for state in states:
        try:
            step = json.loads((state / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        except (OSError, ValueError, KeyError):
            continue
        if step == int(state.name.rpartition("-")[2]):
            log.info("resuming from %s", state)
            return str(state)
    return None


def held_out_loss(
    model: PreTrainedModel,
    rows: Sequence[TokenisedRow],
    collate: Callable[[Sequence[TokenisedRow]], dict[str, torch.Tensor]],
) -> tuple[float | None, float]:
    """Return the mean loss per target token, nats, over ``rows`` and its standard error clustered by row.

    The error is that of a ratio estimator (sum of losses over sum of tokens). (None, nan) without rows.
    """
    if not rows:
        return None, float("nan")
    sums, counts = [], []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for row in rows:
            batch = {k: v.to(model.device) for k, v in collate([row]).items()}
            losses = _target_losses(model, batch)
            sums.append(float(losses.sum()))
            counts.append(len(losses))
    model.train(was_training)
    mean = sum(sums) / sum(counts)
    n = len(sums)
    if n < 2:
        return mean, float("nan")
    residual = sum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))
    return mean, float((n / (n - 1) * residual) ** 0.5 / sum(counts))


def flattening_is_exact(model: PreTrainedModel, rows: Sequence[TokenisedRow]) -> bool:
    """Tell, by trying, whether ``model`` scores two flattened rows exactly as it scores them one by one.

    transformers isolates the rows of a flattened batch from ``position_ids`` alone, for most architectures and silently
    not for some. The first rows, cut to 64 tokens, are compared in float32; the tolerance is 2e-4 of the largest logit,
    far above rounding and far below what a leak between rows does.
    """
    pair = [TokenisedRow(r.input_ids[:64], r.input_ids[:64] == r.input_ids[:64]) for r in (rows[0], rows[-1])]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            batch = {k: v.to(model.device) for k, v in _flatten(pair).items()}
            together = model(
                input_ids=batch["input_ids"],
                position_ids=batch["position_ids"],
                logits_to_keep=batch["logit_rows"],
                use_cache=False,
            ).logits[0]
            alone = torch.cat([_plain_target_logits(model, row) for row in pair])
    except (TypeError, RuntimeError, IndexError, ValueError):
        return False
    finally:
        model.train(was_training)
    return together.shape == alone.shape and bool((together - alone).abs().max() <= 2e-4 * alone.abs().max())


def _plain_target_logits(model: PreTrainedModel, row: TokenisedRow) -> torch.Tensor:
    ids = torch.from_numpy(row.input_ids).long()[None].to(model.device)
    predicting = torch.from_numpy(row.target_mask[1:]).to(model.device)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, :-1][predicting]


def distances(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return ||theta - theta_0||_2, whole (``distance``) and per layer (``distance/layers.3``, ``distance/embed_tokens``).

    Source: Figure 8 of the paper, which plots the whole against the learning rate.
    """
    squares: dict[str, float] = {}
    for name, start in before.items():
        moved = float((after[name].detach().cpu().double() - start.double()).square().sum())
        layer = re.search(r"(\w+\.\d+)\.", name)
        part = layer.group(1) if layer else name.rpartition(".")[0].rpartition(".")[2]
        squares[part] = squares.get(part, 0.0) + moved
    whole = {"distance": sum(squares.values()) ** 0.5}
    return whole | {f"distance/{part}": value**0.5 for part, value in squares.items()}
