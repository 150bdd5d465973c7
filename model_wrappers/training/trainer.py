"""The training loop: transformers' ``Trainer`` over flattened rows, with a loss on target tokens only.

Full fine-tuning and LoRA pass a model in float32, tokenised rows and a `Schedule` to `train`. It returns the trained model and
the metrics. A single process, ``torchrun`` and FSDP use the same code.
"""

from __future__ import annotations

import json
import logging
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from model_wrappers.errors import ConfigError, DivergedError
from model_wrappers.memory import keep_freed_memory
from model_wrappers.processes import world
from model_wrappers.training.forward import (
    Shortcuts,
    flatten,
    flattening_is_exact,
    held_out_loss,
    known_shortcuts,
    pad,
    target_count,
)
from model_wrappers.training.schedule import Schedule, check_warmup
from model_wrappers.training.tokenise import TokenisedRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel


__all__ = ["Schedule", "Trained", "distances", "split_batch", "train"]

log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """The trained model, metrics by name, and a log with loss, learning rate and gradient norm of every optimiser step."""

    model: PreTrainedModel
    metrics: dict[str, float]
    log: list[dict[str, float]]


def split_batch(
    train_batch_size: int, micro_batch_size: int | None, processes: int, *, fitting_rows: int = 8
) -> tuple[int, int]:
    """Return (rows per forward and process, forwards per optimiser step).

    The product of both with the number of processes is ``train_batch_size``. Without a ``micro_batch_size``, the rows per
    forward are the largest possible number up to ``fitting_rows``.

    >>> split_batch(256, None, 2)
    (8, 16)
    >>> split_batch(6, 3, 1)
    (3, 2)

    Raises:
        ConfigError: the global batch cannot be divided in this way.
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


class _PaddedRows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The training rows. Every index beyond the last row gives a row of one token without a target."""

    def __init__(self, rows: Sequence[TokenisedRow]) -> None:
        self.rows = rows
        self._nothing = TokenisedRow(rows[0].input_ids[:1], np.zeros(1, bool))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TokenisedRow:
        return self.rows[index] if index < len(self.rows) else self._nothing


class _Order(torch.utils.data.Sampler[int]):
    """The random order of the rows in each epoch. It depends on seed and epoch, but not on the number of processes.

    Processes take micro-batches in turn. If an epoch does not fill all micro-batches, rows without a target are added at its
    end, so that no row counts twice. (accelerate would add rows from the start of the epoch.)

    Args:
        rows: the training rows.
        batch: rows per optimiser step.
        seed: seed of the order.
        multiple: the number of indices in an epoch is rounded up to a multiple of this number.
        by_length: sort the rows of each global batch by length, so that padded micro-batches have little padding.
    """

    def __init__(self, rows: Sequence[TokenisedRow], batch: int, seed: int, *, multiple: int, by_length: bool) -> None:
        self.rows, self.batch, self.seed, self.epoch = rows, batch, seed, 0
        self._multiple, self._by_length = multiple, by_length

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self._multiple) * self._multiple

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch  # accelerate calls this, also when a training is resumed

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        if len(order) <= self.batch:  # every step takes all rows: then no seed changes so much as a rounding
            order = sorted(order)
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            yield from sorted(part, key=lambda index: -len(self.rows[index].input_ids)) if self._by_length else part
        yield from range(len(order), len(self))


class _Trainer(Trainer):
    """A ``Trainer`` whose loss is the mean over the tokens of the global batch, plus ``l2_to_init * ||theta - theta_0||^2``."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        anchor: dict[str, torch.Tensor],
        l2_to_init: float,
        shortcuts: Shortcuts,
        order: _Order,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._anchor, self._l2, self._shortcuts, self._order = anchor, l2_to_init, shortcuts, order

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:  # noqa: ARG002
        return self._order

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(target_count(b) for b in batches), device=device)
        return batches, int(self.accelerator.gather(count).sum())

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        assert not return_outputs
        # Gradients are averaged over processes, but the tokens were counted over all processes.
        scale = self.accelerator.num_processes / num_items_in_batch
        loss = self._shortcuts.loss(model, inputs, scale, torch.bfloat16 if self.args.bf16 else None)
        if self._l2:
            inner = self.accelerator.unwrap_model(model)
            penalty = sum((p - self._anchor[n]).square().sum() for n, p in inner.named_parameters())
            loss = loss + self._l2 * penalty / self.current_gradient_accumulation_steps
        return loss


class _StopWhenDiverged(TrainerCallback):
    """Ends a training at the first loss or gradient that is not finite, before its state is saved."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if not _is_finite(logs or {}):
            control.should_training_stop, control.should_save = True, False


def train(
    model: PreTrainedModel,
    rows: Sequence[TokenisedRow],
    validation: Sequence[TokenisedRow],
    schedule: Schedule,
    *,
    pad_id: int,
    work: Path,
) -> Trained:
    """Train ``model`` in place on ``rows``; return it with metrics and the log.

    Args:
        model: a model with float32 parameters. Parameters without ``requires_grad`` do not change.
        rows: training rows.
        validation: rows that are scored before and after the training.
        schedule: optimiser, batch and length of the training.
        pad_id: token id for padding.
        work: folder for resumable states. If it contains a complete state, the training continues from it, with the same
            result.

    Raises:
        ConfigError: the global batch cannot be divided, the warm-up is as long as the training, FSDP has no accelerator, or
            ``l2_to_init`` is used with FSDP.
        DivergedError: a loss or a gradient was not finite.
    """
    _, processes = world()
    check_warmup(schedule, len(rows))
    if model.device.type == "cpu":
        keep_freed_memory()
    shortcuts = known_shortcuts(model, [*rows, *validation], sharded=schedule.fsdp)
    flat = flattening_is_exact(model, rows, shortcuts)
    if not flat:
        shortcuts = Shortcuts(shortcuts.model)
        flat = flattening_is_exact(model, rows, shortcuts)
    if not flat:
        log.warning("%s does not isolate flattened rows: padding instead", type(model).__name__)
    micro, accumulate = split_batch(
        schedule.train_batch_size,
        schedule.micro_batch_size,
        processes,
        fitting_rows=int(_fitting_tokens(model, shortcuts) * len(rows) / sum(len(row.input_ids) for row in rows)),
    )
    collate = flatten if flat else pad(pad_id)
    anchor = {n: p.detach().clone() for n, p in model.named_parameters()} if schedule.l2_to_init else {}
    with shortcuts.in_use():
        before = held_out_loss(model, validation, collate, shortcuts)
        trainer = _Trainer(
            model=model,
            args=_arguments(model, schedule, micro, accumulate, work),
            train_dataset=_PaddedRows(rows),
            data_collator=collate,
            anchor=anchor,
            l2_to_init=schedule.l2_to_init,
            shortcuts=shortcuts,
            order=_Order(
                rows,
                schedule.train_batch_size,
                schedule.seed,
                multiple=micro * processes if processes > 1 else 1,
                by_length=not flat,
            ),
            callbacks=[_StopWhenDiverged()],
        )
        outcome = trainer.train(resume_from_checkpoint=_last_whole_state(work))
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        _refuse_diverged(history, schedule.learning_rate)
        trained = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
        trained.eval()
        after = held_out_loss(trained, validation, collate, shortcuts)
    # After a resume, Trainer's own mean sums only the new steps but divides by all steps. The log has every step.
    metrics = {"train_steps": float(outcome.global_step)}
    if history:
        metrics["train_loss"] = math.fsum(entry["loss"] for entry in history) / len(history)
        metrics["train_loss_last"] = float(history[-1]["loss"])
    for name, (value, stderr) in {"validation_loss_before": before, "validation_loss": after}.items():
        if value is not None:
            metrics[name] = value
            if math.isfinite(stderr):  # one row has no standard error, and JSON has no NaN
                metrics[f"{name}_stderr"] = stderr
    return Trained(trained, metrics, history)


def _is_finite(entry: Mapping[str, float]) -> bool:
    return all(math.isfinite(entry.get(name, 0.0)) for name in ("loss", "grad_norm"))


def _refuse_diverged(history: Sequence[Mapping[str, float]], learning_rate: float) -> None:
    for number, entry in enumerate(history):
        if not _is_finite(entry):
            last = f"{history[number - 1]['loss']:.4g}" if number else "none"
            raise DivergedError(
                f"training diverged at step {entry.get('step', number + 1):.0f}: loss {entry['loss']:g}, gradient norm "
                f"{entry.get('grad_norm', math.nan):g} (last finite loss: {last}); there is nothing to evaluate at "
                f"learning_rate={learning_rate:g}; lower it, or max_grad_norm"
            )


def _fitting_tokens(model: PreTrainedModel, shortcuts: Shortcuts) -> int:
    """Return how many tokens a forward may have.

    On a CPU, more than 1,024 tokens need more memory and bring little speed (``benchmarks.finetune --micro-batch``). If
    attention needs a mask over all pairs of tokens, smaller forwards are faster.
    """
    if model.device.type != "cpu":
        return 8192
    return 1024 if shortcuts.by_rows else 512


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
        optim="adamw_torch_fused",
        remove_unused_columns=False,
        report_to="none",
        logging_steps=1,
        logging_nan_inf_filter=False,
        logging_strategy="steps",
        save_strategy="steps" if s.resume_every else "no",
        save_steps=s.resume_every or 500,
        save_total_limit=2,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=world()[0] != 0,
        ddp_find_unused_parameters=False,
        **({_RECOMPUTE: True} if s.gradient_checkpointing else {}),
    )


# transformers 5.23 renamed the argument, and warns about the old name
_RECOMPUTE = next(
    n for n in ("activation_checkpointing", "gradient_checkpointing") if n in TrainingArguments.__dataclass_fields__
)


def _last_whole_state(work: Path) -> str | None:
    """Return the newest complete state in ``work``. The newest of all may be incomplete, if a kill interrupted its writing."""
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


def distances(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return ||theta - theta_0||_2, over all parameters (``distance``) and per layer (``distance/layers.3``).

    Source: Figure 8 of the paper, which plots the distance over all parameters against the learning rate.
    """
    squares: dict[str, float] = {}
    for name, start in before.items():
        moved = float((after[name].detach().cpu().double() - start.double()).square().sum())
        layer = re.search(r"(\w+\.\d+)\.", name)
        part = layer.group(1) if layer else name.rpartition(".")[0].rpartition(".")[2]
        squares[part] = squares.get(part, 0.0) + moved
    whole = {"distance": sum(squares.values()) ** 0.5}
    return whole | {f"distance/{part}": value**0.5 for part, value in squares.items()}
