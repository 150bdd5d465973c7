"""Curves against pre-training tokens, their standard errors, and whether they turn.

Everything here is conditional on the one pre-training run behind each checkpoint: with one run per budget its variation
cannot be estimated, so no error bar and no test covers another pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.demo.plan import Kind
    from overtrain.demo.results import Scores

__all__ = ["Array", "Curve", "Quantity", "assemble"]

Array = np.ndarray[Any, np.dtype[np.float64]]
Quantity = Literal["loss", "sensitivity", "sensitivity_perplexity"]


@dataclass(frozen=True)
class Curve:
    """One quantity of one modification at every budget.

    Attributes:
        kind: of the modification.
        strength: gamma or learning rate; 0 for the base.
        quantity: ``loss`` (held-out, nats per token), ``sensitivity`` (loss minus the base's) or
            ``sensitivity_perplexity`` (perplexity minus the base's).
        tokens: of each budget, ascending.
        by_seed: corpus value of each seed, shape (budgets, seeds).
        residuals: what each document adds to the corpus value beyond its share, averaged over seeds, in the same unit;
            shape (budgets, documents), rows sum to 0.
    """

    kind: Kind
    strength: float
    quantity: Quantity
    tokens: tuple[int, ...]
    by_seed: Array
    residuals: Array

    @property
    def means(self) -> Array:
        """Mean over seeds, shape (budgets,)."""
        return self.by_seed.mean(axis=1)

    @property
    def document_covariance(self) -> Array:
        """Covariance over documents of the budgets' values, shape (budgets, budgets): shared documents pair them.

        Source: linearised ratio estimator, Cochran (1977), chapter 6.
        """
        count = self.residuals.shape[1]
        return self.residuals @ self.residuals.T / (count * (count - 1))

    @property
    def seed_variance(self) -> Array:
        """Variance of one seed's value at each budget, shape (budgets,); 0 where the curve has one seed by nature.

        Pooled over budgets, because a few seeds at one budget estimate nothing, after removing what a seed adds at
        every budget, because the budgets share seeds. Where a budget's own estimate is larger, that one, because the
        effect of noise grows along the curve.
        """
        return seed_variance(self.by_seed)

    @property
    def stderr(self) -> Array:
        """Standard error of `means` over seeds and documents, shape (budgets,)."""
        seeds = self.by_seed.shape[1]
        spread = self.by_seed.var(axis=1, ddof=1) if seeds > 1 else np.zeros(len(self.tokens))
        pooled = np.maximum(spread, spread.mean())
        return np.sqrt(pooled / seeds + np.diag(self.document_covariance))


def seed_variance(values: Array) -> Array:
    """Return `Curve.seed_variance` of ``values``, shape (..., budgets, seeds) -> (..., budgets)."""
    budgets, seeds = values.shape[-2:]
    if seeds == 1:
        return np.zeros(values.shape[:-1])
    centred = values - values.mean(axis=-1, keepdims=True)
    centred = centred - centred.mean(axis=-2, keepdims=True)
    own = (centred**2).sum(axis=-1) * budgets / ((budgets - 1) * (seeds - 1))
    return np.maximum(own, own.mean(axis=-1, keepdims=True))


def assemble(scores: Sequence[Scores]) -> list[Curve]:
    """Return every curve of the demo: the base's loss, then loss and both sensitivities of each modification.

    A corpus value is the ratio of summed nats to summed tokens. Logarithms are averaged, never perplexities.
    """
    tokens = tuple(sorted({s.cell.tokens for s in scores}))
    modifications = list(dict.fromkeys((s.cell.kind, s.cell.strength) for s in scores))
    base_values, base_residuals = _loss(scores, tokens, "base", 0.0)
    curves = []
    for kind, strength in modifications:
        values, residuals = _loss(scores, tokens, kind, strength)
        curves.append(Curve(kind, strength, "loss", tokens, values, residuals.mean(axis=1)))
        if kind == "base":
            continue
        paired = (residuals - base_residuals).mean(axis=1)
        curves.append(Curve(kind, strength, "sensitivity", tokens, values - base_values, paired))
        perplexity, base_perplexity = np.exp(values), np.exp(base_values)
        scaled = perplexity[:, :, None] * residuals - base_perplexity[:, :, None] * base_residuals  # delta method
        curves.append(
            Curve(
                kind,
                strength,
                "sensitivity_perplexity",
                tokens,
                perplexity - base_perplexity,
                scaled.mean(axis=1),
            )
        )
    return curves


def _loss(scores: Sequence[Scores], tokens: tuple[int, ...], kind: Kind, strength: float) -> tuple[Array, Array]:
    """Return nats per token, shape (budgets, seeds), and residuals, shape (budgets, seeds, documents)."""
    chosen = {(s.cell.tokens, s.cell.seed): s for s in scores if (s.cell.kind, s.cell.strength) == (kind, strength)}
    seeds = sorted({seed for _, seed in chosen})
    nll = np.array([[chosen[budget, seed].nll for seed in seeds] for budget in tokens])
    units = scores[0].tokens
    values = nll.sum(axis=2) / units.sum()
    return values, (nll - values[:, :, None] * units) / units.mean()
