"""The bootstrap that selects the learning rate anew in every replicate, in general form.

A *fold* is a part of the reported documents with what selects its rate. Ordinarily there is one: all documents, at the rate
that another metric selects. Where a metric is cross-fitted there are two: each half of the documents at the rate that the
other half selects. *Blocks* are the sets of documents that are resampled: those that are reported, and those that select
where selection itself rests on documents; a fold refers to its blocks, so that documents which select and are reported are
drawn once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model_wrappers.errors import DataError
from overtrain.analysis.contrasts import combine, divide, pairs, unit_terms
from overtrain.analysis.inflection import selections
from overtrain.analysis.noise import slope_variance

if TYPE_CHECKING:
    from overtrain.analysis.layout import Array, Layout

__all__ = ["Block", "Design", "Fold", "null_of"]

_SAME_BUDGET = 0.5
"""Share of residuals that stay at their budget: `overtrain.analysis.noise` weighs a budget's own variance alike."""

_Indices = np.ndarray[tuple[int, ...], np.dtype[np.intp]]


@dataclass(frozen=True)
class Block:
    """One set of documents, scored by the cells of all rates. B budgets, L rates, U units.

    Attributes:
        cells: mean of every cell over the block's documents, shape (B, L, U).
        residuals: what each document adds to the mean of a budget and rate, shape (B * L, documents); None without.
        covariance: of those means over documents, shape (B, L, B, L).
    """

    cells: Array
    residuals: Array | None
    covariance: Array

    @classmethod
    def of(cls, layout: Layout, budgets: int, rates: int) -> Block:
        """Return a block from a layout whose budgets are all budgets' rates, in the order (budget, rate)."""
        shape = (budgets, rates)
        return cls(layout.cells.reshape(*shape, -1), layout.residuals, layout.covariance.reshape(shape * 2))


@dataclass(frozen=True)
class Fold:
    """Documents that are reported at the rates that something selects.

    Attributes:
        selected_by: index of the block whose cells select, lower being better.
        reported: index of the block that is reported.
        weight: share of the reported documents; the weights of all folds sum to 1.
    """

    selected_by: int
    reported: int
    weight: float = 1.0


@dataclass(frozen=True)
class Design:
    """A tuned curve with everything that it was selected from.

    Attributes:
        blocks: that folds refer to.
        folds: that make up the curve.
        by_unit: whether each unit selects for itself (a run is a checkpoint of its own; seeds are averaged first).
        tuned: the curve as it is reported.
    """

    blocks: tuple[Block, ...]
    folds: tuple[Fold, ...]
    by_unit: bool
    tuned: Layout

    def choose(self, selection: Array) -> _Indices:
        """Return the index of the best rate, shape (..., B, U), for a selection metric of shape (..., B, L, U)."""
        if self.by_unit:
            return np.asarray(selection.argmin(axis=-2))
        best = selection.mean(axis=-1).argmin(axis=-1)
        return np.broadcast_to(best[..., None], (*best.shape, selection.shape[-1]))


def null_of(design: Design, rng: np.random.Generator, replicates: int) -> tuple[Array, float]:
    """Return the maxima of `overtrain.analysis.inflection.CurveTests` under equal budgets, and how often selection moved.

    Residuals of a unit, of all rates and blocks together, are resampled, half of them from their own budget, because the noise
    of budgets differs, and half from any; a unit's slope over the order of budgets is drawn with the variance that the tuned
    curve shows; documents of every block are drawn once
    per replicate, for selection and report alike.

    Returns:
        Maxima of shape (replicates, selections), and the share of replicates in which some checkpoint has another rate.

    Raises:
        DataError: there is one budget, so there is no difference to test.
    """
    budgets, _, units = design.blocks[0].cells.shape
    if budgets < 2:
        raise DataError("one budget has results at the tuned rate; a curve needs two")
    layout = design.tuned
    weights, _ = pairs(budgets)
    shape = (replicates, budgets, units)
    from_budget, from_unit = rng.integers(0, budgets, shape), rng.integers(0, units, shape)
    same = rng.random(shape) < _SAME_BUDGET
    from_budget = np.where(same, np.arange(budgets)[:, None], from_budget)
    order = np.arange(budgets) - (budgets - 1) / 2
    steep = slope_variance(layout.cells, paired=layout.paired)
    slopes = np.sqrt(steep) * rng.standard_normal((replicates, 1, units)) * order[:, None]
    drawn = [_resample(block.cells, from_budget, from_unit) for block in design.blocks]
    by_rate = [_documents(block, rng, replicates) for block in design.blocks]
    cells = slopes
    shift = -layout.means + np.zeros((replicates, budgets))
    documents = np.zeros((replicates, len(weights)))
    moved = np.zeros(replicates, bool)
    for fold in design.folds:
        selection, reported = design.blocks[fold.selected_by], design.blocks[fold.reported]
        chosen = design.choose(drawn[fold.selected_by] + _or_zero(by_rate[fold.selected_by])[..., None])
        moved |= (chosen != design.choose(selection.cells)).any(axis=(1, 2))
        picked = np.take_along_axis(drawn[fold.reported], chosen[:, :, None, :], axis=2)[:, :, 0, :]
        cells = cells + fold.weight * picked
        noise = by_rate[fold.reported]
        if noise is None:
            continue
        share = (chosen[..., None] == np.arange(reported.cells.shape[1])).mean(axis=2)  # (n, B, L): of the units
        shift += fold.weight * (share * noise).sum(axis=2)
        covariance = np.einsum("nbl,blcm,ncm->nbc", share, reported.covariance, share, optimize=True)
        documents += fold.weight**2 * np.einsum("kb,nbc,kc->nk", weights, covariance, weights, optimize=True)
    shift += cells.mean(axis=-1)
    terms = unit_terms(cells, weights, paired=layout.paired, pooled=False)[0]
    errors = np.sqrt(combine(terms, documents, weights**2 @ layout.interaction))
    t = divide(shift @ weights.T, errors)
    maxima = [(t[:, rows] * signs).max(axis=1) for rows, signs in selections(budgets)]
    return np.stack(maxima, axis=1), float(moved.mean())


def _unit_residuals(cells: Array) -> Array:
    """Return what a unit deviates at a budget beyond what it adds at every budget, inflated to the variance of a unit.

    Args:
        cells: shape (budgets, units).
    """
    budgets, units = cells.shape
    left = (cells - cells.mean(axis=1, keepdims=True)) * np.sqrt(units / max(units - 1, 1))
    if budgets == 1:
        return np.asarray(left)
    return np.asarray((left - left.mean(axis=0)) * np.sqrt(budgets / (budgets - 1)))


def _or_zero(noise: Array | None) -> Any:
    return np.zeros((1, 1, 1)) if noise is None else noise


def _documents(block: Block, rng: np.random.Generator, replicates: int) -> Array | None:
    """Return what a draw of documents adds to the mean of every budget and rate, shape (n, B, L); None without documents."""
    if block.residuals is None:
        return None
    count = block.residuals.shape[1]
    times = rng.multinomial(count, np.full(count, 1 / count), size=replicates)
    return np.asarray((times @ block.residuals.T / count).reshape(replicates, *block.cells.shape[:2]))


def _resample(values: Array, from_budget: _Indices, from_unit: _Indices) -> Array:
    """Return fitted values (budget plus unit, per rate) with residuals of other budgets and units, shape (n, B, L, U)."""
    fitted = values.mean(axis=2, keepdims=True) + values.mean(axis=0) - values.mean(axis=(0, 2), keepdims=True)
    residuals = np.stack([_unit_residuals(values[:, rate]) for rate in range(values.shape[1])], axis=1)
    return np.asarray(fitted + residuals[from_budget, :, from_unit].transpose(0, 1, 3, 2))
