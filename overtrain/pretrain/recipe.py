"""What determines a ladder: the shape of the model, the budgets and the optimiser."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise

from model_wrappers.errors import ConfigError

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One independent cosine run per budget, all from the same initialisation and the same order of the text.

    The defaults are the laptop-size ladder of the demo: an OLMo-like model (non-parametric norm, RoPE, SwiGLU, untied
    embeddings) of 24,576 parameters. Nothing below assumes that size.

    Attributes:
        budgets: tokens of each run, ascending; a run takes as many whole steps as fit.
        width: hidden size; a multiple of ``heads``.
        mlp: inner size of the SwiGLU block.
        layers: transformer blocks.
        heads: attention heads.
        context: tokens per sequence.
        vocabulary: entries of the tokenizer.
        batch: sequences per step.
        peak_learning_rate: reached at the end of the warm-up.
        warmup_fraction: share of each run's steps with a linearly rising rate.
        betas: AdamW's decay rates of the two moments.
        weight_decay: AdamW's, decoupled, on every parameter (all of them are matrices here).
        clipping: largest L2 norm of the gradient.
        embedding_std: initial deviation of the input embedding; every other matrix has 1/sqrt(fan_in).
        seed: of the initialisation and of the order of the text.
    """

    budgets: tuple[int, ...]
    width: int = 16
    mlp: int = 64
    layers: int = 2
    heads: int = 2
    context: int = 64
    vocabulary: int = 512
    batch: int = 32
    peak_learning_rate: float = 1e-2
    warmup_fraction: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clipping: float = 1.0
    embedding_std: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "mlp", "layers", "heads", "context", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be 1 or more")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ConfigError(
                f"width={self.width}, heads={self.heads}: width / heads must be an even integer; change one of them"
            )
        if not 0 <= self.warmup_fraction < 1:
            raise ConfigError(f"warmup_fraction={self.warmup_fraction}: must be at least 0 and below 1")
        if not self.peak_learning_rate > 0:
            raise ConfigError(f"peak_learning_rate={self.peak_learning_rate}: must be greater than 0")
        if not self.budgets:
            raise ConfigError("budgets=(): give at least one number of tokens")
        tokens = [self.tokens(budget) for budget in self.budgets]
        if tokens[0] < 1 or any(later <= earlier for earlier, later in pairwise(tokens)):
            raise ConfigError(
                f"budgets={self.budgets}: must ascend by at least one step of {self.tokens_per_step} tokens "
                "(batch x context), the first being one step or more"
            )

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimiser step trains on."""
        return self.batch * self.context

    def steps(self, budget: int) -> int:
        """Return the number of optimiser steps of the run of ``budget`` tokens.

        >>> Recipe(budgets=(256_000,)).steps(256_000)
        125
        """
        return budget // self.tokens_per_step

    def tokens(self, budget: int) -> int:
        """Return the tokens that the run of ``budget`` tokens really sees: whole steps only."""
        return self.steps(budget) * self.tokens_per_step

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate of the update after ``step`` earlier ones in a run of ``steps``: warm-up, then a cosine to 0.

        >>> recipe = Recipe(budgets=(2048,))
        >>> [recipe.learning_rate(step, 100) for step in (0, 9, 100)]
        [0.001, 0.01, 0.0]
        """
        warmup = round(self.warmup_fraction * steps)
        if step < warmup:
            return self.peak_learning_rate * (step + 1) / warmup
        return self.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    def run(self, budget: int) -> dict[str, object]:
        """Return what determines the run of ``budget`` alone, as JSON data: the recipe without the other budgets."""
        described = dataclasses.asdict(self)
        described["betas"] = list(self.betas)
        del described["budgets"]
        return described | {"tokens": self.tokens(budget)}
