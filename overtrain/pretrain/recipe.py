"""The recipe of a ladder: the shape of the model, the budgets and the optimiser."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise

from model_wrappers.errors import ConfigError
from overtrain.common.schema import FileSection, key

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe(FileSection):
    """One independent run per budget, with a cosine schedule. All runs have the same initialisation and order of the text.

    The defaults are the laptop-size ladder of the demo: an OLMo-like model (non-parametric norm, RoPE, SwiGLU, untied
    embeddings) with 24,576 parameters. No code assumes this size.

    Attributes:
        seed: seed of the initialisation and of the order of the text. A study sets it for each run.
    """

    budgets: tuple[int, ...] = key(
        doc="tokens of each run; a run takes as many whole optimiser steps as fit",
        allowed="ascending, each at least one step (`batch` x `context` tokens) more than the one before",
    )
    width: int = key(16, least=1, doc="hidden size; `width / heads` must be an even integer")
    mlp: int = key(64, least=1, doc="inner size of the SwiGLU block")
    layers: int = key(2, least=1, doc="transformer blocks")
    heads: int = key(2, least=1, doc="attention heads")
    context: int = key(64, least=1, doc="tokens per sequence")
    vocabulary: int = key(512, least=1, doc="entries of the tokenizer")
    batch: int = key(32, least=1, doc="sequences per optimiser step")
    peak_learning_rate: float = key(1e-2, above=0, doc="learning rate at the end of the warm-up")
    warmup_fraction: float = key(
        0.1, least=0, below=1, doc="share of each run's steps in which the learning rate rises linearly"
    )
    betas: tuple[float, float] = key((0.9, 0.95), least=0, below=1, doc="AdamW's decay rates of the two moments")
    weight_decay: float = key(
        0.1, least=0, doc="AdamW's decoupled weight decay, on every parameter (all parameters are matrices here)"
    )
    clipping: float = key(1.0, above=0, doc="largest L2 norm of the gradient")
    embedding_std: float = key(
        0.02, least=0, doc="initial deviation of the input embedding; every other matrix has 1/sqrt(fan_in)"
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.budgets:
            raise ConfigError("budgets=(): give at least one number of tokens")
        self.check()
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ConfigError(
                f"width={self.width}, heads={self.heads}: width / heads must be an even integer; change one of them"
            )
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
        """Return the tokens that the run of ``budget`` tokens is trained on: a whole number of steps."""
        return self.steps(budget) * self.tokens_per_step

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of the update after ``step`` earlier updates: warm-up, then a cosine to 0 at ``steps``.

        >>> recipe = Recipe(budgets=(2048,))
        >>> [recipe.learning_rate(step, 100) for step in (0, 9, 100)]
        [0.001, 0.01, 0.0]
        """
        warmup = round(self.warmup_fraction * steps)
        if step < warmup:
            return self.peak_learning_rate * (step + 1) / warmup
        return self.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    def run(self, budget: int) -> dict[str, object]:
        """Return everything that determines the run of ``budget``, as JSON data: the recipe without the other budgets."""
        described = dataclasses.asdict(self)
        described["betas"] = list(self.betas)
        del described["budgets"]
        return described | {"tokens": self.tokens(budget)}
