"""How long and how fast a training goes; known before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model_wrappers.errors import ConfigError

__all__ = ["Schedule", "check_warmup", "steps_of"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of a training; names and units as in `model_wrappers.modifications.finetune.FineTune`."""

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


def steps_of(schedule: Schedule, rows: int) -> int:
    """Return the number of optimiser steps of a training on ``rows`` rows, as Trainer counts them."""
    if schedule.max_steps is not None:
        return schedule.max_steps
    return math.ceil(schedule.epochs * math.ceil(rows / schedule.train_batch_size))


def check_warmup(schedule: Schedule, rows: int) -> None:
    """Refuse a warm-up that is as long as the training, because its learning rate would never reach the peak.

    Raises:
        ConfigError: the warm-up is too long; the message gives both numbers of steps.
    """
    steps = steps_of(schedule, rows)
    if steps and schedule.warmup_steps >= steps:
        raise ConfigError(
            f"warmup_steps={schedule.warmup_steps}: the training has {steps} step{'s' if steps > 1 else ''} ({rows} rows, "
            f"train_batch_size={schedule.train_batch_size}), so the learning rate would never reach its peak; give fewer "
            "warmup_steps, more rows or epochs, or a smaller batch"
        )
