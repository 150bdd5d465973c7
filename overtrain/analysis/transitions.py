"""Which documents a model loses and gains between two checkpoints: right -> wrong and wrong -> right.

A model that guesses changes from right to wrong without having forgotten anything: with four choices, two models that know
nothing differ on 38% of documents. Counts are therefore also given corrected for guessing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.long import COLUMNS, require

if TYPE_CHECKING:
    from overtrain.analysis.layout import Flags

__all__ = ["known_by_one", "transitions"]

_NORMAL = float(stats.norm.ppf(0.975))


def transitions(before: pd.DataFrame, after: pd.DataFrame, *, chance: float | None = None) -> pd.DataFrame:
    """Count documents that change from right to wrong and back, seed by seed.

    Args:
        before: long form of one checkpoint with ``y`` 1 for right and 0 for wrong (not `oriented`).
        after: the same of another checkpoint, or of the modified one. Cells are paired by run and seed; where one of the
            two has a single seed-less cell per run (a base model), it is paired with every seed of the other.
        chance: share of right answers by guessing: 0.25 with four choices, 0 for free answers; without it nothing is
            corrected.

    Returns:
        One row per run and seed: ``run``, ``seed``, ``n_documents``, ``right_to_wrong``, ``wrong_to_right``, ``both_right``,
        ``both_wrong``, ``net`` (share of documents gained minus lost) and ``p_value`` (exact McNemar test; documents are
        its only source of variation); ``forgotten`` and ``learned``, the shares of documents that only the first or only the
        second model knows, each with ``_low`` and ``_high`` (95%), corrected for guessing and missing without ``chance``: see
        `known_by_one`. ``unpaired`` counts documents or cells of either side that the other lacks.

    Raises:
        DataError: scores other than 0 and 1, or nothing to pair.
    """
    sides = []
    for frame in (before, after):
        require(frame, COLUMNS)
        part = frame.dropna(subset=["y"])[["run", "seed", "document", "y"]]
        if not part["y"].isin([0, 1]).all():
            odd = part.loc[~part["y"].isin([0, 1]), "y"].iloc[0]
            raise DataError(f"transitions need scores of 0 or 1, found {odd:g}; use an accuracy, before `oriented`")
        sides.append(part.assign(seed=part["seed"].astype("Int64")))
    keys = ["run", "seed", "document"]
    if any(side["seed"].isna().all() for side in sides) and not all(side["seed"].isna().all() for side in sides):
        keys = ["run", "document"]
        sides = [side.drop(columns="seed") if side["seed"].isna().all() else side for side in sides]
    paired = sides[0].merge(sides[1], on=keys, how="outer", suffixes=("_before", "_after"), indicator=True)
    alone = int((paired["_merge"] != "both").sum())
    both = paired[paired["_merge"] == "both"]
    if both.empty:
        raise DataError("the two sides share no run, seed and document; score both on the same documents")
    rows = []
    for (run, seed), cell in both.groupby(["run", "seed"], dropna=False):
        old, new = cell["y_before"].to_numpy(bool), cell["y_after"].to_numpy(bool)
        lost, gained = int((old & ~new).sum()), int((~old & new).sum())
        rows.append(
            {
                "run": run,
                "seed": seed,
                "n_documents": len(cell),
                "right_to_wrong": lost,
                "wrong_to_right": gained,
                "both_right": int((old & new).sum()),
                "both_wrong": int((~old & ~new).sum()),
                "net": (gained - lost) / len(cell),
                "p_value": float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else np.nan,
                **_corrected(old, new, chance),
                "unpaired": alone,
            }
        )
    return pd.DataFrame(rows)


def _corrected(old: Flags, new: Flags, chance: float | None) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, pair in (("forgotten", (old, new)), ("learned", (new, old))):
        share, error = (np.nan, np.nan) if chance is None else known_by_one(*pair, chance)
        row |= {name: share, f"{name}_low": share - _NORMAL * error, f"{name}_high": share + _NORMAL * error}
    return row


def known_by_one(first: Flags, second: Flags, chance: float) -> tuple[float, float]:
    """Return the share of documents that the first model knows and the second does not, and its standard error.

    A model knows an answer or guesses. Of the documents that neither knows, both models get wrong a share (1 - c)^2, and the
    first alone gets right a share c (1 - c); subtracting those from what changed from right to wrong leaves
    (changed - both_wrong c / (1 - c)) / (1 - c). The estimate is unbiased and so can be negative.

    Source: Harmon et al. (2025), arXiv 2510.17776, chance-adjusted forgetting and backward transfer.
    Deviation: they take guesses from the two accuracies; the documents that both get wrong say the same without assuming
    that knowing at one checkpoint is independent of knowing at the other. Guesses of the two models are taken as
    independent; where they agree more often than that, too much is subtracted.

    Args:
        first: right or not, one per document.
        second: the same of the other model.
        chance: share of right answers by guessing, below 1.

    >>> known_by_one(np.array([True, True, False, False]), np.array([False, True, False, True]), 0.0)[0]
    0.25
    """
    scores = ((first & ~second) - (~first & ~second) * chance / (1 - chance)) / (1 - chance)
    error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else np.nan
    return float(scores.mean()), float(error)
