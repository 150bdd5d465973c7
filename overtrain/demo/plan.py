"""What the demo trains and evaluates: a ladder, and a grid of modifications over it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from overtrain.pretrain.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FULL", "QUICK", "Cell", "Kind", "Plan"]

Kind = Literal["base", "gaussian", "finetune"]


@dataclass(frozen=True)
class Cell:
    """One evaluation: a checkpoint, one modification of it, and the seed of that modification.

    Attributes:
        tokens: what the checkpoint was trained on.
        kind: ``base`` is the checkpoint as it is.
        strength: gamma of the noise, learning rate of the fine-tuning, 0 for the base.
        seed: of the noise draw, or of the data order.
    """

    tokens: int
    kind: Kind
    strength: float
    seed: int

    @property
    def name(self) -> str:
        """File name of the cell's results, without the suffix."""
        if self.kind == "base":
            return f"tokens-{self.tokens}-base"
        parameter = "gamma" if self.kind == "gaussian" else "rate"
        return f"tokens-{self.tokens}-{self.kind}-{parameter}-{self.strength:g}-seed-{self.seed}"

    def model(self, plan: Plan, out: Path) -> tuple[str, dict[str, Any]]:
        """Return lm-eval's model name and model_args for the cell in the demo's folder ``out``."""
        arguments: dict[str, Any] = {"pretrained": str(plan.checkpoints(out) / f"tokens-{self.tokens}")}
        if self.kind != "finetune":
            return "overtrain_perturb", arguments | {"gamma": self.strength, "seed": self.seed}
        arguments |= {
            "data": str(plan.arithmetic(out)),
            "learning_rate": self.strength,
            "max_steps": plan.finetune_steps,
            "train_batch_size": plan.finetune_batch,
            "train_max_length": plan.recipe.context,
            "lr_scheduler": "cosine",
            "validation_fraction": 0,
            "seed": self.seed,
        }
        return "overtrain_ft", arguments


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole demo.

    Attributes:
        recipe: of the ladder.
        gammas: noise scales, in units of each parameter's deviation at initialisation.
        noise_seeds: noise draws per gamma, the same at every budget.
        learning_rates: peak rates of the fine-tuning.
        finetune_seeds: data orders per rate, the same at every budget.
        finetune_steps: optimiser steps.
        finetune_batch: rows per step.
    """

    recipe: Recipe
    gammas: tuple[float, ...]
    noise_seeds: int
    learning_rates: tuple[float, ...]
    finetune_seeds: int
    finetune_steps: int = 32
    finetune_batch: int = 64

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each checkpoint, ascending."""
        return tuple(self.recipe.tokens(budget) for budget in self.recipe.budgets)

    def text(self, out: Path) -> Path:
        """Return the folder of the prepared text."""
        return out / "text"

    def arithmetic(self, out: Path) -> Path:
        """Return the file of fine-tuning rows."""
        return out / "arithmetic.jsonl"

    def checkpoints(self, out: Path) -> Path:
        """Return the folder of the ladder."""
        return out / "checkpoints"

    def result(self, cell: Cell, out: Path) -> Path:
        """Return the file of the cell's results."""
        return out / "cells" / f"{cell.name}.json"

    def cells(self, tokens: int) -> Iterator[Cell]:
        """Yield every cell of the checkpoint of ``tokens``."""
        yield Cell(tokens, "base", 0.0, 0)
        for gamma in self.gammas:
            yield from (Cell(tokens, "gaussian", gamma, seed) for seed in range(self.noise_seeds))
        for rate in self.learning_rates:
            yield from (Cell(tokens, "finetune", rate, seed) for seed in range(self.finetune_seeds))

    def describe(self) -> dict[str, Any]:
        """Return the plan as JSON data; two plans with the same description have the same results."""
        described = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in described.items()}


FULL = Plan(
    recipe=Recipe(budgets=tuple(256_000 * 2**doubling for doubling in range(7))),
    gammas=(0.05, 0.1, 0.2, 0.3),
    noise_seeds=4,
    learning_rates=(1e-3, 3e-3),
    finetune_seeds=3,
)
"""Seven budgets from 0.26M to 16M tokens; 161 cells."""

QUICK = Plan(
    recipe=Recipe(budgets=(20_480, 40_960)),
    gammas=(0.2,),
    noise_seeds=2,
    learning_rates=(1e-3,),
    finetune_seeds=2,
    finetune_steps=4,
    finetune_batch=16,
)
"""Two budgets that are far too small to show anything: whether everything works."""
