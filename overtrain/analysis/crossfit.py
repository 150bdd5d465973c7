"""A metric that selects the learning rate and is reported too, without the bias of that: two fixed halves of its documents.

The rate that is best on one half is reported on the other, and the reverse, so no document is reported at a rate that it
helped to select. The halves are the even and the odd documents: fixed, and alike where neighbouring documents are. The luck
of a trained model, which helps it on all documents, stays: as it does where a held-out loss of the same model selects.

Source: Chernozhukov et al. (2018), "Double/debiased machine learning", Section 3 (cross-fitting, two folds).
Deviation: the paper's own tuning (Springer et al. (2025), Section 2.1) reports what it selected by, which favours a
checkpoint with more rates that are as good as its best.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.inflection import LEVEL, CurveTests
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import COLUMNS, per_group, require
from overtrain.analysis.optima import rate_table
from overtrain.analysis.reselect import Design, Fold, null_of
from overtrain.analysis.tuned import block_of, rates_of, repeated, without_empty
from overtrain.analysis.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cell_means", "cross_fitted", "cross_fitted_verdict"]

_CELL = ["budget", "run", "seed", "rate"]
_REPLICATES = 2_000


def cell_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``budget``, ``run``, ``seed``, ``rate`` and ``value`` of every cell: what `rate_table` selects by."""
    require(frame, [*COLUMNS, "rate"])
    sums = frame.assign(total=frame["y"] * frame["weight"], weight=frame["weight"].where(frame["y"].notna()))
    sums = sums.groupby(_CELL, dropna=False)[["total", "weight"]].sum(min_count=1)
    return (sums["total"] / sums["weight"]).rename("value").reset_index()


def cross_fitted(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep, for every checkpoint, the documents of one half at the rate that is best on the other half, and the reverse.

    Args:
        frame: long form with ``rate`` and documents that are integers, lower is better.

    Returns:
        The long form of one curve, every document once per seed; ``rate`` is that of the document's half.

    Raises:
        DataError: there are no documents, or a checkpoint has no rate whose cells are complete.
    """
    halves = _halves(frame)
    parts = []
    for selecting, reported in (halves, halves[::-1]):
        rates = rate_table(cell_means(selecting))
        best = rates.loc[rates["best"], ["budget", "run", "rate"]]
        part = reported.merge(best, on=["budget", "run", "rate"], how="inner")
        lost = set(frame["budget"]) - set(part["budget"])
        if lost:
            raise DataError(
                f"budget {min(lost)} has no learning rate whose cells are complete; run and judge its missing cells, or drop "
                "the budget"
            )
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def cross_fitted_verdict(
    frame: pd.DataFrame,
    level: float = LEVEL,
    *,
    margin: float | None = None,
    by: Sequence[str] = (),
    quantity: str = "loss at the tuned learning rate",
    replicates: int = _REPLICATES,
    seed: int = 0,
    collect: list[CurveTests] | None = None,
) -> pd.DataFrame:
    """Return the verdict of the cross-fitted curve; both selections are repeated in every replicate of the bootstrap.

    Args:
        frame: as for `cross_fitted`; budgets share rates, runs and seeds.
        level: of every test.
        margin: see `overtrain.analysis.verdict.verdict`.
        by: columns that name a curve.
        quantity: for the sentence.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        collect: see `overtrain.analysis.verdict.verdict`.

    Returns:
        As `overtrain.analysis.tuned.tuned_verdict`; ``selection_noise`` counts a change of either half's rate.

    Raises:
        DataError: no rate is complete, there are no documents, or there is one run with one seed (nothing to resample).
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        design = _design(part)
        null, moved = null_of(design, np.random.default_rng(seed), replicates)
        tests = CurveTests(design.tuned, level, seed=seed, null_maxima=null)
        if collect is not None:
            collect.append(tests)
        return verdict_of(tests, margin=margin, quantity=quantity).assign(selection_noise=moved)

    return per_group(frame, by, one)


def _halves(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the even and the odd documents; what has no result is in both, so that its rate is complete in neither."""
    require(frame, [*COLUMNS, "rate"])
    document = frame["document"].astype("Int64")
    empty = frame["y"].isna()
    if document[~empty].isna().any() or (~empty).sum() == 0:
        raise DataError(
            "cross-fitting halves the documents and there are no scores per document; judge the cells again"
        )
    odd = (document.fillna(0) % 2 == 1).to_numpy(bool)
    even, uneven = (frame[empty.to_numpy(bool) | side] for side in (~odd, odd))
    if even["y"].notna().sum() == 0 or uneven["y"].notna().sum() == 0:
        raise DataError("cross-fitting needs two documents or more, even and odd ones; judge more documents")
    return even, uneven


def _design(frame: pd.DataFrame) -> Design:
    frame, empty = without_empty(frame)
    rates, gone = rates_of(frame, cell_means(frame))
    kept = frame[frame["rate"].isin(rates)]
    budgets = sorted(set(kept["budget"]))
    found = [block_of(half, rates, budgets) for half in _halves(kept)]
    blocks = tuple(block for block, _ in found)
    repeated(blocks[0])
    counts = [0 if block.residuals is None else block.residuals.shape[1] for block in blocks]
    if not all(counts):
        raise DataError(
            "the cells of all learning rates share no documents in one of the halves; judge the missing ones"
        )
    tuned = assemble(cross_fitted(kept))
    notes = [f"learning rate {rate:g} left out: missing cells" for rate in gone]
    return Design(
        blocks=blocks,
        folds=tuple(Fold(1 - half, half, counts[half] / sum(counts)) for half in (0, 1)),
        by_unit=found[0][1] > 1,
        tuned=replace(tuned, missing=(*empty, *notes, *tuned.missing)),
    )
