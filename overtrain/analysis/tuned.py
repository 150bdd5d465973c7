"""The curve at tuned learning rates: selection is part of the procedure, so its uncertainty is part of every test.

Where selection cannot tell two rates apart and the reported metric differs between them, the curve jumps from budget to
budget for no reason that lies in pre-training. Critical values therefore come from a studentised bootstrap that selects
anew in every replicate: residuals of a seed, selection metric and reported metric of all rates together, are resampled
over budgets and inflated by sqrt(S / (S - 1)); documents are crossed. (Paper, Section 2.1: "for each checkpoint, we tune
the learning rate".)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from model_wrappers.errors import DataError
from overtrain.analysis.bootstrap import unit_residuals
from overtrain.analysis.contrasts import combine, divide, pairs, unit_variance
from overtrain.analysis.inflection import LEVEL, CurveTests, selections
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import COLUMNS, per_group, require
from overtrain.analysis.optima import rate_table
from overtrain.analysis.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from overtrain.analysis.layout import Array, Layout

__all__ = ["at_tuned_rates", "tuned_verdict"]

_REPLICATES = 2_000


def at_tuned_rates(frame: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """Keep, for every checkpoint, the rows at its best learning rate.

    Args:
        frame: long form with ``learning_rate``.
        selection: as for `overtrain.analysis.optima.rate_table`.

    Returns:
        The long form of one curve, ``learning_rate`` kept. Cells that are missing at the best rate stay missing.

    Raises:
        DataError: a checkpoint of ``frame`` has no rate with a complete selection metric.
    """
    require(frame, [*COLUMNS, "learning_rate"])
    rates = rate_table(selection)
    best = rates.loc[rates["best"], ["budget", "run", "learning_rate"]]
    tuned = frame.merge(best, on=["budget", "run", "learning_rate"], how="inner")
    lost = set(frame["budget"]) - set(tuned["budget"])
    if lost:
        raise DataError(
            f"budget {min(lost)} has no learning rate with a complete selection metric and a result; "
            "run its missing cells, or drop the budget"
        )
    return tuned


class _Grid(NamedTuple):
    """Cells of all rates. B budgets, L rates, U units (runs where there are several, else seeds).

    Attributes:
        selection: selection metric, shape (B, L, U).
        target: reported metric, shape (B, L, U).
        by_unit: whether each unit selects for itself (a run is a checkpoint of its own; seeds are averaged first).
        residuals: of the documents, shape (B * L, documents), None without.
        covariance: of the documents, shape (B, L, B, L).
        tuned: the curve at the selected rates.
    """

    selection: Array
    target: Array
    by_unit: bool
    residuals: Array | None
    covariance: Array
    tuned: Layout

    def choose(self, selection: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        """Return the index of the best rate, shape (..., B, U), for a selection metric of shape (..., B, L, U)."""
        if self.by_unit:
            return np.asarray(selection.argmin(axis=-2))
        best = selection.mean(axis=-1).argmin(axis=-1)
        return np.broadcast_to(best[..., None], (*best.shape, selection.shape[-1]))


def tuned_verdict(
    frame: pd.DataFrame,
    selection: pd.DataFrame,
    level: float = LEVEL,
    *,
    margin: float | None = None,
    by: Sequence[str] = (),
    quantity: str = "loss at the tuned learning rate",
    replicates: int = _REPLICATES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the verdict of the tuned curve, with critical values from the bootstrap that repeats the selection.

    Args:
        frame: long form with ``learning_rate``; budgets share rates, runs and seeds.
        selection: as for `overtrain.analysis.optima.rate_table`.
        level: of every test.
        margin: see `overtrain.analysis.verdict.verdict`.
        by: columns that name a curve, in both frames.
        quantity: for the sentence.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The columns of `verdict`, and ``selection_noise``: share of replicates in which some checkpoint's rate
        differs from the selected one. A rate that lacks a cell anywhere is left out everywhere, and ``missing`` says so.

    Raises:
        DataError: no rate is complete, or there is one run with one seed (nothing to resample).
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        mine = selection
        for column in by:
            mine = mine[mine[column] == part[column].iloc[0]]
        grid = _grid(part, mine)
        null, moved = _null(grid, np.random.default_rng(seed), replicates)
        tests = CurveTests(grid.tuned, level, seed=seed, null_maxima=null)
        return judge(tests, margin=margin, quantity=quantity).assign(selection_noise=moved)

    return per_group(frame, by, one)


def _grid(frame: pd.DataFrame, selection: pd.DataFrame) -> _Grid:
    require(frame, [*COLUMNS, "learning_rate"])
    require(selection, ["budget", "run", "seed", "learning_rate", "value"])
    frame, selection = (part.assign(seed=part["seed"].astype("Int64").fillna(-1)) for part in (frame, selection))
    frame, empty = _without_empty(frame)
    cell = ["budget", "run", "seed"]
    wanted = len(frame[cell].drop_duplicates())
    scored = frame.dropna(subset=["y"])[[*cell, "learning_rate"]].drop_duplicates()
    selected = selection.dropna(subset=["value"])[[*cell, "learning_rate", "value"]]
    both = scored.merge(selected, on=[*cell, "learning_rate"])
    counts = both.groupby("learning_rate").size()
    rates = sorted(counts.index[counts == wanted])
    gone = sorted(set(frame["learning_rate"].dropna()) - set(rates))
    if not rates:
        raise DataError("no learning rate has a result and a selection metric in every cell; run the missing cells")
    both = both[both["learning_rate"].isin(rates)].sort_values([*cell, "learning_rate"])
    kept = frame[frame["learning_rate"].isin(rates)]
    order = {budget: place for place, budget in enumerate(sorted(set(kept["budget"])))}
    place = {rate: index for index, rate in enumerate(rates)}

    def coded(part: pd.DataFrame) -> pd.DataFrame:
        code = part["budget"].map(order) * len(rates) + part["learning_rate"].map(place)
        return part.assign(budget=code.astype(int))

    target = assemble(coded(kept))
    marks = coded(both).assign(y=both["value"], document=None, weight=1.0)
    shape = (len(order), len(rates), target.cells.shape[1])
    if shape[2] == 1:
        raise DataError("one run with one seed leaves nothing to resample; tune over at least two seeds")
    chosen_rows = at_tuned_rates(kept, selection[selection["learning_rate"].isin(rates)])
    tuned = assemble(chosen_rows)
    notes = [f"learning rate {rate:g} left out: missing cells" for rate in gone]
    return _Grid(
        selection=assemble(marks).cells.reshape(shape),
        target=target.cells.reshape(shape),
        by_unit=target.n_runs > 1,
        residuals=target.residuals,
        covariance=target.covariance.reshape(shape[:2] * 2),
        tuned=replace(tuned, missing=(*empty, *notes, *tuned.missing)),
    )


def _without_empty(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    full = set(frame.dropna(subset=["y"])["budget"])
    empty = sorted(set(frame["budget"]) - full)
    return frame[frame["budget"].isin(full)], [f"budget {b} has no result" for b in empty]


def _null(grid: _Grid, rng: np.random.Generator, replicates: int) -> tuple[Array, float]:
    """Return `CurveTests.null_maxima` and the share of replicates that select another rate."""
    budgets, rates, units = grid.target.shape
    layout = grid.tuned
    weights, _ = pairs(budgets)
    shape = (replicates, budgets, units)
    from_budget, from_unit = rng.integers(0, budgets, shape), rng.integers(0, units, shape)
    drawn = [_resample(part, from_budget, from_unit) for part in (grid.selection, grid.target)]
    chosen = grid.choose(drawn[0])
    cells = np.take_along_axis(drawn[1], chosen[:, :, None, :], axis=2)[:, :, 0, :]
    moved = float((chosen != grid.choose(grid.selection)).any(axis=(1, 2)).mean())
    shift = cells.mean(axis=-1) - layout.means
    share = (chosen[..., None] == np.arange(rates)).mean(axis=2)  # (n, B, L): of the units that chose a rate
    variance = unit_variance(cells, paired=layout.paired, pooled=False)[0] / units
    documents = np.zeros((replicates, len(weights)))
    if grid.residuals is not None:
        count = grid.residuals.shape[1]
        times = rng.multinomial(count, np.full(count, 1 / count), size=replicates)
        by_rate = (times @ grid.residuals.T / count).reshape(replicates, budgets, rates)
        shift = shift + (share * by_rate).sum(axis=2)
        covariance = np.einsum("nbl,blcm,ncm->nbc", share, grid.covariance, share, optimize=True)
        documents = np.einsum("kb,nbc,kc->nk", weights, covariance, weights, optimize=True)
    errors = np.sqrt(combine(variance @ (weights**2).T, documents, weights**2 @ layout.interaction))
    t = divide(shift @ weights.T, errors)
    return np.stack([(t[:, rows] * signs).max(axis=1) for rows, signs in selections(budgets)], axis=1), moved


def _resample(
    values: Array,
    from_budget: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    from_unit: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> Array:
    """Return fitted values (budget plus unit, per rate) with residuals of other budgets and units, shape (n, B, L, U)."""
    fitted = values.mean(axis=2, keepdims=True) + values.mean(axis=0) - values.mean(axis=(0, 2), keepdims=True)
    residuals = np.stack([unit_residuals(values[:, rate], paired=True) for rate in range(values.shape[1])], axis=1)
    return np.asarray(fitted + residuals[from_budget, :, from_unit].transpose(0, 1, 3, 2))
