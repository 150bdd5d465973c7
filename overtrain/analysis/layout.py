"""Which scores a curve rests on, and the variances that they allow to estimate.

Units of variation: budgets, runs, seeds, documents. Seeds cross documents; a run is one pre-training. With one run the
unit that is repeated at every budget is the seed; with several it is the run, averaged over its seeds, so that the
variance between runs holds both. Units and documents that budgets share are paired. With one run no interval covers
another pre-training.

Missing cells: an incomplete design is reduced to the budgets and units that are complete, and says what it left out.
A cell that diverged (an infinite ``y``) is no missing cell: it ranks worst. Seeds that changed nothing, because the training
is deterministic or its rows fit one batch, count as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.long import COLUMNS, require

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Array", "Flags", "Jitter", "Layout", "assemble", "from_cells"]

Array = np.ndarray[Any, np.dtype[np.float64]]


Flags = np.ndarray[Any, np.dtype[np.bool_]]

_SAME = 1e-6
"""Units whose scores differ by less than this share of the scores' size are the same training, up to rounding."""

_LOWER = 0.2
"""One minus the confidence of the upper limit of the jitter's variance in simulated studies."""


@dataclass(frozen=True)
class Jitter:
    """How much neighbouring checkpoints of one run differ by beyond seeds and documents.

    Attributes:
        square: mean square of checkpoints about the mean of their neighbourhood.
        expected: what seeds and documents explain of it.
        freedom: degrees of freedom of ``square``.
        members: checkpoints that each budget averages, shape (budgets,).
    """

    square: float
    expected: float
    freedom: float
    members: Array

    @property
    def variance(self) -> float:
        """Estimated variance of one checkpoint's jitter."""
        return max(self.square - self.expected, 0.0)

    def draw(self, rng: np.random.Generator, size: int, *, known: bool) -> tuple[Array, Array]:
        """Return jitter of every budget and its estimated variance in ``size`` studies, each of shape (size, budgets)."""
        factor = 1.0 if known else self.freedom / float(stats.chi2.ppf(_LOWER, self.freedom))
        total = max(self.square * factor, self.expected)
        shift = rng.standard_normal((size, len(self.members))) * np.sqrt((total - self.expected) / self.members)
        square = total * rng.chisquare(self.freedom, size) / self.freedom
        return shift, np.maximum(square - self.expected, 0.0)[:, None] / self.members


@dataclass(frozen=True)
class Layout:
    """A curve as arrays.

    Attributes:
        budgets: pre-training tokens, ascending, shape (budgets,).
        cells: mean of every unit at every budget, shape (budgets, units); NaN only where ``paired`` is False.
        paired: whether all budgets share their units.
        residuals: what each shared document adds to a budget's mean, averaged over units; rows sum to 0; shape
            (budgets, documents), None where there are no documents or budgets do not share them.
        covariance: of the budgets' means over documents, interaction with units included, shape (budgets, budgets).
        interaction: what unit-by-document variation adds to the variance of one budget's mean, shape (budgets,). The
            variance over units and the one over documents both hold it.
        n_runs: pre-training runs per budget.
        n_seeds: seeds per run.
        n_documents: documents per budget (the fewest); 1 where only cells' means are known.
        missing: what was left out, in words.
        diverged: cells whose training or scores are not finite, shape (budgets, units); None where all are. Such a cell
            ranks worst: in ``cells`` it has the worst value of the curve's finite ones.
        jitter: of neighbouring checkpoints that were merged into one budget; None where there are none.
    """

    budgets: tuple[int, ...]
    cells: Array
    paired: bool
    residuals: Array | None
    covariance: Array
    interaction: Array
    n_runs: int
    n_seeds: int
    n_documents: int
    missing: tuple[str, ...]
    diverged: Flags | None = None
    jitter: Jitter | None = None

    @property
    def counts(self) -> Array:
        """Units at each budget, shape (budgets,)."""
        return np.isfinite(self.cells).sum(axis=1).astype(float)

    @property
    def means(self) -> Array:
        """Mean of each budget, shape (budgets,)."""
        return np.asarray(np.nanmean(self.cells, axis=1))

    @property
    def covers(self) -> str:
        """What the standard errors cover, and what they do not, in words."""
        inside: list[str] = []
        outside: list[str] = []
        (inside if self.n_runs > 1 else outside).append("pre-training runs")
        (inside if self.cells.shape[1] > 1 else outside).append("seeds")
        (inside if self.n_documents > 1 else outside).append("documents")
        text = f"covers {' and '.join(inside)}" if inside else "covers nothing"
        return f"{text}; not {' or '.join(outside)}" if outside else text


def from_cells(cells: Array, *, paired: bool = True, budgets: Sequence[int] | None = None) -> Layout:
    """Return a curve of cells' means alone, without documents.

    Args:
        cells: shape (budgets, units).
        paired: whether all budgets share their units.
        budgets: pre-training tokens; 1, 2, ... without it.
    """
    count, units = cells.shape
    return Layout(
        budgets=tuple(budgets) if budgets is not None else tuple(range(1, count + 1)),
        cells=cells,
        paired=paired and count > 1,
        residuals=None,
        covariance=np.zeros((count, count)),
        interaction=np.zeros(count),
        n_runs=1,
        n_seeds=units,
        n_documents=1,
        missing=(),
    )


def assemble(frame: pd.DataFrame, *, merge_identical: bool = True) -> Layout:
    """Turn the long form of one curve into arrays.

    Args:
        frame: the long form.
        merge_identical: count seeds whose scores are identical as one, so that documents carry every comparison.

    Raises:
        DataError: a column is missing, a document occurs twice in a cell, or no cell has a result.
    """
    require(frame, COLUMNS)
    table = _table(frame)
    budgets, columns, paired, missing = _complete(table)
    scores, weights, shared, dropped = _cube(table, budgets, columns)
    runs = table.column_runs[columns]
    diverged = table.diverged[np.ix_(budgets, columns)]
    there = table.present[np.ix_(budgets, columns)]
    n_seeds = min(_fewest_seeds(runs[row], table.by_run) for row in there)
    if merge_identical and n_seeds > 1 and not table.by_run and not diverged.any() and _identical(scores):
        missing.append(f"the {n_seeds} seeds have identical scores and count as one")
        scores, weights, n_seeds = *([_first_row(part) for part in parts] for parts in (scores, weights)), 1
        paired, runs, diverged = len(budgets) > 1, runs[:1], diverged[:, :1]
    units = np.unique(runs, return_inverse=True)[1] if table.by_run else np.arange(len(runs))
    if diverged.any():
        count = int(diverged.sum())
        missing.append(f"{count} cell{'s' if count > 1 else ''} diverged and rank worst")
    return Layout(
        budgets=tuple(int(table.budgets[b]) for b in budgets),
        paired=paired and len(budgets) > 1,
        n_runs=min(len(set(runs[row])) for row in there) if table.by_run else 1,
        n_seeds=n_seeds,
        missing=(*missing, *dropped),
        diverged=np.stack([diverged[:, units == u].any(axis=1) for u in range(int(units.max()) + 1)], axis=1)
        if diverged.any()
        else None,
        **_variation(scores, weights, units, paired=paired, shared=shared),
    )


def _identical(scores: Sequence[Array]) -> bool:
    """Return whether the units of every budget, shape (units, documents) each, agree up to rounding."""
    size = float(np.sqrt(np.nanmean(np.concatenate([part.ravel() for part in scores]) ** 2)))
    spread = max(float((np.nanmax(part, axis=0) - np.nanmin(part, axis=0)).max()) for part in scores)
    return spread <= _SAME * size


def _first_row(part: Array) -> Array:
    """Return the first row that has values, shape (1, documents)."""
    return part[np.isfinite(part).any(axis=1)][:1]


def _fewest_seeds(runs: np.ndarray[Any, Any], by_run: bool) -> int:
    return int(np.unique(runs, return_counts=True)[1].min()) if by_run else len(runs)


class _Table(NamedTuple):
    """All cells as arrays: B budgets, C columns (a run with a seed), D documents.

    Attributes:
        budgets: tokens, shape (B,).
        column_runs: run of each column, shape (C,).
        column_seeds: seed of each column, -1 for none, shape (C,).
        by_run: whether a budget has several runs, so that runs are the units.
        scores: shape (B, C, D), NaN where absent.
        weights: shape (B, C, D).
        listed: cells that the frame names, with or without a result, shape (B, C).
        present: cells with a result or diverged, shape (B, C).
        diverged: cells that diverged, shape (B, C); their scores are those of the curve's worst cell.
    """

    budgets: Array
    column_runs: np.ndarray[Any, Any]
    column_seeds: np.ndarray[Any, Any]
    by_run: bool
    scores: Array
    weights: Array
    listed: Flags
    present: Flags
    diverged: Flags


def _table(frame: pd.DataFrame) -> _Table:
    budget, budgets = pd.factorize(frame["budget"], sort=True)
    run, runs = pd.factorize(frame["run"], sort=True)
    seed = frame["seed"].astype("Int64").fillna(-1).to_numpy(np.int64)
    by_run = int((np.bincount(pd.unique(budget * len(runs) + run) // len(runs))).max()) > 1
    # A run of its own per budget says no more than the budget: seeds are then the columns.
    seed_code, seeds = pd.factorize(seed, sort=True)  # hashing: sorting millions of rows took a third of a report
    column, pairs = pd.factorize((run if by_run else np.zeros_like(run)) * len(seeds) + seed_code, sort=True)
    names = np.stack([pairs // len(seeds), seeds[pairs % len(seeds)]])
    y, w = frame["y"].to_numpy(float), frame["weight"].to_numpy(float)
    document = pd.factorize(frame["document"])[0]
    known = np.isfinite(y)
    if not known.any() and np.isinf(y).any():
        raise DataError("every cell of this curve diverged; there is no finite score to compare")
    if not known.any():
        raise DataError("no cell of this curve has a result; run the missing cells first (overtrain status)")
    if (document[known] < 0).all():
        document = np.zeros_like(document)
    elif (document[known] < 0).any():
        raise DataError("some results have no document and some have; give scores per document for all cells or none")
    shape = (len(budgets), names.shape[1], int(document.max()) + 1)
    place = np.ravel_multi_index((budget[known], column[known], document[known]), shape)
    scores, weights = np.full(shape, np.nan), np.full(shape, np.nan)
    scores.reshape(-1)[place], weights.reshape(-1)[place] = y[known], w[known]
    if np.isfinite(scores).sum() < known.sum():
        raise DataError(
            "a document occurs twice in one cell: the rows mix several variants, modifications or metrics; "
            "filter them to one curve, or group by the column that varies"
        )
    listed = np.zeros(shape[:2], bool)
    listed[budget, column] = True
    diverged = np.zeros(shape[:2], bool)
    diverged[budget[np.isinf(y)], column[np.isinf(y)]] = True
    _rank_worst(scores, weights, diverged)
    return _Table(
        np.asarray(budgets),
        np.asarray(runs)[names[0]],
        names[1],
        by_run,
        scores,
        weights,
        listed,
        np.isfinite(scores).any(axis=2),
        diverged,
    )


def _rank_worst(scores: Array, weights: Array, diverged: Flags) -> None:
    """Give every diverged cell the scores of the curve's worst cell, in place."""
    if not diverged.any():
        return
    scores[diverged] = weights[diverged] = np.nan
    with np.errstate(invalid="ignore"):
        values = np.nansum(scores * weights, axis=2) / np.nansum(weights, axis=2)
    worst = np.unravel_index(int(np.nanargmax(values)), values.shape)
    scores[diverged], weights[diverged] = scores[worst], weights[worst]


def _complete(table: _Table) -> tuple[list[int], list[int], bool, list[str]]:
    """Return the indices of budgets and columns to use, whether they are paired, and what was left out, in words.

    While cells are missing, a budget that misses half of its seeds or more goes; else the seed with the most gaps, because
    budgets are what the study asks about.
    """
    present = table.present
    budgets = np.flatnonzero(present.any(axis=1)).tolist()
    columns = np.flatnonzero(present.any(axis=0)).tolist()
    paired = bool((present.sum(axis=0) > 1).any()) or len(budgets) == 1
    missing = [f"budget {b} has no result" for b in table.budgets[~present.any(axis=1)]]
    missing += [f"{_named(table, c)} has no result" for c in np.flatnonzero(~present.any(axis=0)).tolist()]
    count = int((~present).sum()) if paired else int((table.listed & ~present).sum())
    while paired:
        gaps = ~present[np.ix_(budgets, columns)]
        if not gaps.any():
            break
        by_budget, by_column = gaps.mean(axis=1), gaps.mean(axis=0)
        if by_budget.max() < 0.5:
            worst = columns.pop(int(by_column.argmax()))
            missing.append(f"{_named(table, worst)} left out: not at every budget")
        else:
            worst = budgets.pop(int(by_budget.argmax()))
            missing.append(f"budget {table.budgets[worst]} left out: half of its seeds or more are missing")
    if count:
        missing.insert(0, f"{count} missing cell{'s' if count > 1 else ''}")
    return budgets, columns, paired, missing


def _named(table: _Table, column: int) -> str:
    seed = table.column_seeds[column]
    name = "the cell without a seed" if seed < 0 else f"seed {seed}"
    return f"{name} of run {table.column_runs[column]}" if table.by_run else name


def _cube(
    table: _Table, budgets: Sequence[int], columns: Sequence[int]
) -> tuple[list[Array], list[Array], bool, list[str]]:
    """Return scores and weights per budget, each (columns, documents), whether documents are shared, what was dropped."""
    kept = np.ix_(budgets, columns)
    known = np.isfinite(table.scores[kept]) | ~table.present[kept][:, :, None]
    common = known.all(axis=(0, 1))
    used = np.isfinite(table.scores[kept]).any(axis=(0, 1))
    common &= used
    shared = bool(common.any())
    dropped, scores, weights = [], [], []
    if shared and common.sum() < used.sum():
        dropped.append(f"{used.sum() - common.sum()} of {used.sum()} documents left out: not in every cell")
    for place, budget in enumerate(budgets):
        here = np.isfinite(table.scores[budget, columns]).any(axis=0)
        whole = common if shared else known[place].all(axis=0) & here
        if not whole.any():
            raise DataError(
                f"the cells of budget {table.budgets[budget]} have no document in common; score them on the same documents"
            )
        if not shared and whole.sum() < here.sum():
            lost = here.sum() - whole.sum()
            dropped.append(f"{lost} documents of budget {table.budgets[budget]} left out: not in every cell")
        scores.append(table.scores[budget][columns][:, whole])
        weights.append(table.weights[budget][columns][:, whole])
    return scores, weights, shared, dropped


def _variation(
    scores: Sequence[Array], weights: Sequence[Array], units: np.ndarray[Any, Any], *, paired: bool, shared: bool
) -> dict[str, Any]:
    """Return cells, residuals, covariance and interaction of `Layout`.

    Source: a cell is a ratio of sums; its residuals are those of the linearised ratio estimator, Cochran (1977), ch. 6.
    """
    n_units = int(units.max()) + 1
    unit_of = np.equal.outer(np.arange(n_units), units).astype(float)
    cells, residuals = [], []
    for y, w in zip(scores, weights, strict=True):
        value = (y * w).sum(axis=1) / w.sum(axis=1)
        e = w * (y - value[:, None]) / w.mean(axis=1, keepdims=True)
        there = np.isfinite(value)
        share = unit_of * there
        size = share.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            share = share / size
        cells.append(share @ np.where(there, value, 0.0))
        residuals.append(share @ np.where(there[:, None], e, 0.0))
    cube = np.array(cells)
    n_documents = min(e.shape[1] for e in residuals)
    means = [np.nanmean(e, axis=0) for e in residuals]
    interaction = _interaction(residuals, means, paired=paired and shared) if n_documents > 1 else np.zeros(len(cube))
    covariance = np.zeros((len(cube), len(cube)))
    if n_documents > 1 and shared:
        stacked = np.array(means)
        covariance = stacked @ stacked.T / (n_documents * (n_documents - 1))
    elif n_documents > 1:
        covariance = np.diag([float(m @ m) / (len(m) * (len(m) - 1)) for m in means])
    return {
        "cells": cube,
        "residuals": np.array(means) if shared and n_documents > 1 else None,
        "covariance": covariance,
        "interaction": interaction,
        "n_documents": n_documents,
    }


def _interaction(residuals: Sequence[Array], means: Sequence[Array], *, paired: bool) -> Array:
    """Return unit-by-document variance over units and documents, pooled over budgets, per budget's mean."""
    counts = np.array([np.isfinite(e[:, 0]).sum() for e in residuals], float)
    documents = np.array([e.shape[1] for e in residuals], float)
    left = [e - m for e, m in zip(residuals, means, strict=True)]
    budgets = len(left)
    if paired and budgets > 1:
        cube = np.array(left)
        freedom = (budgets - 1) * (counts[0] - 1) * (documents[0] - 1)
        squares = float(((cube - cube.mean(axis=0)) ** 2).sum())
    else:
        freedom = float(((counts - 1) * (documents - 1)).sum())
        squares = float(sum(np.nansum(e**2) for e in left))
    variance = squares / freedom if freedom > 0 else 0.0
    return variance / (counts * documents)
