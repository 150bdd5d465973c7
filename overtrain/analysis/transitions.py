"""Which documents a model loses and gains between two checkpoints: right -> wrong and wrong -> right."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.long import COLUMNS, require

__all__ = ["transitions"]


def transitions(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Count documents that change from right to wrong and back, seed by seed.

    Args:
        before: long form of one checkpoint with ``y`` 1 for right and 0 for wrong (not `oriented`).
        after: the same of another checkpoint, or of the modified one. Cells are paired by run and seed; where one of the
            two has a single seed-less cell per run (a base model), it is paired with every seed of the other.

    Returns:
        One row per run and seed: ``run``, ``seed``, ``n_documents``, ``right_to_wrong``, ``wrong_to_right``, ``both_right``,
        ``both_wrong``, ``net`` (share of documents gained minus lost) and ``p_value`` (exact McNemar test; documents are
        its only source of variation). ``unpaired`` counts documents or cells of either side that the other lacks.

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
                "unpaired": alone,
            }
        )
    return pd.DataFrame(rows)
