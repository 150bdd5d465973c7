"""Does a curve rise again? Max-T tests whose critical values are simulated for the design at hand.

Source: shared definitions of the project's statistics (rise, U, confidence set of the minimum); max-T over all ordered
pairs of budgets. Only the order of the budgets enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from overtrain.demo.curves import Array, Curve, seed_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LEVEL", "Verdict", "judge", "pairwise_t"]

LEVEL = 0.05
"""Chance of a false rise per curve, all budgets equal."""

_SIMULATIONS = 10_000

Shape = Literal["turn", "U", "falling", "rising", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """What a curve does from the first budget to the last.

    Attributes:
        curve: the curve.
        shape: ``turn``: a rise is established and the minimum lies before the last budget; ``U``: a fall before it is
            established too; ``rising``: a rise from the first budget on; ``falling``: a fall and no rise is
            established; ``inconclusive``: neither.
        rise: largest standardised rise between an earlier and a later budget.
        fall: largest standardised fall.
        critical: what ``rise`` or ``fall`` must exceed.
        minimum: open interval of budgets (tokens) that holds the minimum, None at an end without a budget beyond;
            95% confidence.
        last_alone: whether every established rise ends at the last budget, so that one checkpoint carries the finding.
    """

    curve: Curve
    shape: Shape
    rise: float
    fall: float
    critical: float
    minimum: tuple[int | None, int | None]
    last_alone: bool


def judge(curve: Curve, seed: int = 0) -> Verdict:
    """Test ``curve`` for a rise, a fall, and both in this order; ``seed`` is that of the simulation."""
    t = pairwise_t(curve.by_seed, curve.document_covariance)
    null = _simulate(curve, seed)
    upper = np.triu(np.ones(t.shape, bool), 1)
    critical = float(np.quantile(null[:, upper].max(axis=1), 1 - LEVEL))
    rise, fall = float(t[upper].max()), float((-t[upper]).max())
    kept = _confidence_set(t, null)
    minimum = (
        curve.tokens[min(kept) - 1] if min(kept) > 0 else None,
        curve.tokens[max(kept) + 1] if max(kept) + 1 < len(curve.tokens) else None,
    )
    last_excluded = len(curve.tokens) - 1 not in kept
    shape: Shape = "inconclusive"
    if rise > critical and last_excluded:
        shape = "U" if _fall_then_rise(t) > critical else "turn"
        if max(kept) == 0:
            shape = "rising"
    elif fall > critical:
        shape = "falling"
    last_alone = rise > critical and not (t[:-1, :-1][upper[:-1, :-1]] > critical).any()
    return Verdict(curve, shape, rise, fall, critical, minimum, bool(last_alone))


def pairwise_t(values: Array, document_covariance: Array) -> Array:
    """Return (m_j - m_i) / se_ij, antisymmetric, shape (..., budgets, budgets) for values of (..., budgets, seeds)."""
    seeds = values.shape[-1]
    means = values.mean(axis=-1)
    return _standardise(means, seed_variance(values) / seeds, document_covariance)


def _standardise(means: Array, variances: Array, document_covariance: Array) -> Array:
    diagonal = np.diag(document_covariance)
    documents = diagonal[:, None] + diagonal[None, :] - 2 * document_covariance
    squared = variances[..., :, None] + variances[..., None, :] + documents
    difference = means[..., None, :] - means[..., :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / np.sqrt(np.maximum(squared, 0))
    return np.where(difference == 0, 0.0, t)


def _simulate(curve: Curve, seed: int) -> Array:
    """Return `pairwise_t` of curves whose budgets are all equal, with this curve's design and variances.

    Shape (simulations, budgets, budgets). The seeds' variance is the pooled one and is estimated anew in every
    simulated curve; the documents' covariance is taken as known (there are over a hundred).
    """
    generator = np.random.default_rng(seed)
    budgets, seeds = curve.by_seed.shape
    documents = generator.multivariate_normal(
        np.zeros(budgets), curve.document_covariance, size=_SIMULATIONS, method="eigh"
    )
    deviation = np.sqrt(_pooled(curve.by_seed))
    drawn = generator.standard_normal((_SIMULATIONS, budgets, seeds)) * deviation
    return pairwise_t(drawn + documents[:, :, None], curve.document_covariance)


def _pooled(values: Array) -> float:
    budgets, seeds = values.shape
    if seeds == 1:
        return 0.0
    centred = values - values.mean(axis=1, keepdims=True)
    centred = centred - centred.mean(axis=0, keepdims=True)
    return float((centred**2).sum() / ((budgets - 1) * (seeds - 1)))


def _confidence_set(t: Array, null: Array) -> Sequence[int]:
    """Return the budgets that may hold the minimum: all k with max_j (m_k - m_j) / se below its own null quantile."""
    budgets = len(t)
    # (m_k - m_j) / se stands in column k of row j.
    return [k for k in range(budgets) if t[:, k].max() <= np.quantile(null[:, :, k].max(axis=1), 1 - LEVEL)]


def _fall_then_rise(t: Array) -> float:
    """Return the largest, over k, of the smaller of the largest fall up to k and the largest rise from k on."""
    budgets = len(t)
    best = -np.inf
    for k in range(1, budgets - 1):
        before, after = t[: k + 1, : k + 1], t[k:, k:]
        fall = (-before[np.triu_indices(k + 1, 1)]).max()
        rise = after[np.triu_indices(budgets - k, 1)].max()
        best = max(best, min(fall, rise))
    return float(best)
