"""The curve at tuned learning rates: selection is part of the procedure, so its uncertainty is part of every test.

Where selection cannot tell two rates apart and the reported metric differs between them, the curve jumps from budget to
budget for no reason that lies in pre-training. Critical values therefore come from a studentised bootstrap that selects
anew in every replicate: residuals of a seed, selection metric and reported metric of all rates together, are resampled
over budgets and inflated by sqrt(S / (S - 1)); documents are crossed. (Paper, Section 2.1: "for each checkpoint, we tune
the learning rate".)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from model_wrappers.errors import DataError
from overtrain.analysis.inflection import LEVEL, CurveTests
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import COLUMNS, per_group, require
from overtrain.analysis.optima import rate_table
from overtrain.analysis.reselect import Block, Design, Fold, null_of
from overtrain.analysis.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["at_tuned_rates", "block_of", "rates_of", "repeated", "tuned_verdict", "without_empty"]

_REPLICATES = 2_000


def at_tuned_rates(frame: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """Keep, for every checkpoint, the rows at its best learning rate.

    Args:
        frame: long form with ``rate``.
        selection: as for `overtrain.analysis.optima.rate_table`.

    Returns:
        The long form of one curve, ``rate`` kept. Cells that are missing at the best rate stay missing.

    Raises:
        DataError: a checkpoint of ``frame`` has no rate with a complete selection metric.
    """
    require(frame, [*COLUMNS, "rate"])
    rates = rate_table(selection)
    best = rates.loc[rates["best"], ["budget", "run", "rate"]]
    tuned = frame.merge(best, on=["budget", "run", "rate"], how="inner")
    lost = set(frame["budget"]) - set(tuned["budget"])
    if lost:
        raise DataError(
            f"budget {min(lost)} has no learning rate with a complete selection metric and a result; "
            "run its missing cells, or drop the budget"
        )
    return tuned


def tuned_verdict(
    frame: pd.DataFrame,
    selection: pd.DataFrame,
    level: float = LEVEL,
    *,
    margin: float | None = None,
    by: Sequence[str] = (),
    scores: pd.DataFrame | None = None,
    itself: bool = False,
    quantity: str = "loss at the tuned learning rate",
    replicates: int = _REPLICATES,
    seed: int = 0,
    collect: list[CurveTests] | None = None,
) -> pd.DataFrame:
    """Return the verdict of the tuned curve, with critical values from the bootstrap that repeats the selection.

    Args:
        frame: long form with ``rate``; budgets share rates, runs and seeds.
        selection: as for `overtrain.analysis.optima.rate_table`.
        level: of every test.
        margin: see `overtrain.analysis.verdict.verdict`.
        by: columns that name a curve, in all frames.
        scores: long form of the selection metric with ``rate``, where documents select: they are drawn too.
        itself: the selection metric is the mean of ``frame``'s own documents. The curve is then biased towards better; what
            selects and is reported is drawn once.
        quantity: for the sentence.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        collect: see `overtrain.analysis.verdict.verdict`.

    Returns:
        The columns of `verdict`, and ``selection_noise``: share of replicates in which some checkpoint's rate
        differs from the selected one. A rate that lacks a cell anywhere is left out everywhere, and ``missing`` says so.

    Raises:
        DataError: no rate is complete, or there is one run with one seed (nothing to resample).
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        mine, documents = selection, scores
        for column in by:
            mine = mine[mine[column] == part[column].iloc[0]]
            documents = None if documents is None else documents[documents[column] == part[column].iloc[0]]
        design = _design(part, mine, documents, itself=itself)
        null, moved = null_of(design, np.random.default_rng(seed), replicates)
        tests = CurveTests(design.tuned, level, seed=seed, null_maxima=null)
        if collect is not None:
            collect.append(tests)
        return verdict_of(tests, margin=margin, quantity=quantity).assign(selection_noise=moved)

    return per_group(frame, by, one)


def rates_of(frame: pd.DataFrame, selection: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Return the rates with a result and a selection metric in every cell of ``frame``, and the others.

    Raises:
        DataError: there is no such rate.
    """
    cell = ["budget", "run", "seed"]
    wanted = len(frame[cell].drop_duplicates())
    scored = frame.dropna(subset=["y"])[[*cell, "rate"]].drop_duplicates()
    both = scored.merge(selection.dropna(subset=["value"])[[*cell, "rate"]], on=[*cell, "rate"])
    counts = both.groupby("rate").size()
    rates = sorted(counts.index[counts == wanted])
    if not rates:
        raise DataError("no learning rate has a result and a selection metric in every cell; run the missing cells")
    return rates, sorted(set(frame["rate"].dropna()) - set(rates))


def block_of(frame: pd.DataFrame, rates: Sequence[float], budgets: Sequence[int]) -> tuple[Block, int]:
    """Return the long form of all ``rates`` as a block, and its number of pre-training runs."""
    order, place = ({name: index for index, name in enumerate(names)} for names in (budgets, rates))
    code = frame["budget"].map(order) * len(rates) + frame["rate"].map(place)
    layout = assemble(frame.assign(budget=code.astype(int)), merge_identical=False)
    return Block.of(layout, len(budgets), len(rates)), layout.n_runs


def repeated(block: Block) -> None:
    """Check that there is something to resample.

    Raises:
        DataError: one run with one seed.
    """
    if block.cells.shape[-1] == 1:
        raise DataError("one run with one seed leaves nothing to resample; tune over at least two seeds")


def without_empty(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return ``frame`` without the budgets that have no result, seeds as integers, and what was left out in words."""
    full = set(frame.dropna(subset=["y"])["budget"])
    empty = sorted(set(frame["budget"]) - full)
    kept = frame[frame["budget"].isin(full)]
    return kept.assign(seed=kept["seed"].astype("Int64").fillna(-1)), [f"budget {b} has no result" for b in empty]


def _design(frame: pd.DataFrame, selection: pd.DataFrame, scores: pd.DataFrame | None, *, itself: bool) -> Design:
    require(frame, [*COLUMNS, "rate"])
    require(selection, ["budget", "run", "seed", "rate", "value"])
    frame, empty = without_empty(frame)
    selection = selection.assign(seed=selection["seed"].astype("Int64").fillna(-1))
    cell = ["budget", "run", "seed", "rate"]
    rates, gone = rates_of(frame, selection)
    kept = frame[frame["rate"].isin(rates)]
    budgets = sorted(set(kept["budget"]))
    mine = selection[selection["rate"].isin(rates)]
    reported, runs = block_of(kept, rates, budgets)
    repeated(reported)
    tuned = assemble(at_tuned_rates(kept, mine))
    notes = [f"learning rate {rate:g} left out: missing cells" for rate in gone]
    blocks: tuple[Block, ...] = (reported,)
    if not itself:
        marks = mine[[*cell, "value"]].rename(columns={"value": "y"}).assign(document=None, weight=1.0)
        if scores is not None:
            marks = scores.assign(seed=scores["seed"].astype("Int64").fillna(-1))[[*COLUMNS, "rate"]]
        blocks = (reported, block_of(kept[cell].drop_duplicates().merge(marks, on=cell), rates, budgets)[0])
    return Design(
        blocks=blocks,
        folds=(Fold(len(blocks) - 1, 0),),
        by_unit=runs > 1,
        tuned=replace(tuned, missing=(*empty, *notes, *tuned.missing)),
    )
