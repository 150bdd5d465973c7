"""One verdict per curve, with everything that stands beside it: what one cell, one seed or jitter could change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from overtrain.analysis.inflection import LEVEL, CurveTests, first_rise, minimum_interval
from overtrain.analysis.jitter import merge_neighbours
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group
from overtrain.analysis.sentence import format_tokens, sentence
from overtrain.analysis.shape import classify, equivalent
from overtrain.analysis.stability import stability

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["classify", "equivalent", "format_tokens", "verdict", "verdict_of"]


def verdict(
    frame: pd.DataFrame,
    level: float = LEVEL,
    *,
    margin: float | None = None,
    by: Sequence[str] = (),
    quantity: str = "loss",
    pooled: bool = False,
    seed: int = 0,
    collect: list[CurveTests] | None = None,
) -> pd.DataFrame:
    """Say what a curve does from its first budget to its last.

    - *turn*: a rise is established and the last budget is not in the confidence set of the minimum;
    - *U*: a fall before the rise is established too (intersection-union);
    - *plateau*: all budgets are equivalent within ``margin``;
    - *monotone*: a fall is established, no rise is, and the last budget may hold the minimum; ``rise_not_excluded`` says how
      large a rise the data still allow;
    - *inconclusive*: none of these, or nothing to estimate a standard error from.

    Neighbouring checkpoints are merged and their jitter is part of the standard error. Cells that diverged rank worst: the
    level is then halved between the test of values and the place of divergence, whose lateness alone makes a *turn*; a curve
    with diverged cells is never a plateau or monotone. Two seeds or one are *exploratory*: the tests then rest on the noise
    being equal at all budgets.

    Args:
        frame: the long form, lower is better; several curves if ``by`` names the columns that tell them apart.
        level: of every test.
        margin: largest difference that does not matter, in the unit of ``y``, set before the study runs; without it no
            plateau is ever found.
        by: columns that name a curve.
        quantity: what ``y`` is, for the sentence.
        pooled: see `overtrain.analysis.contrasts.unit_terms`.
        seed: of the simulation of critical values.
        collect: takes the tests of every curve, in the order of the rows, for `overtrain.analysis.family`.

    Returns:
        One row per curve: ``verdict``, ``sentence``, ``exploratory``, ``rise``, ``fall``, ``fall_then_rise`` (statistics),
        ``critical``, ``p_rise``, ``rise_established``, ``fall_established``, ``rise_not_excluded`` (simultaneous upper bound
        on any rise, in the unit of ``y``), ``inflection`` (tokens) with ``after``, ``before``, ``left_censored``,
        ``right_censored``, ``first_rise`` (tokens; see `overtrain.analysis.inflection.first_rise`) with ``first_rise_by``
        (increase to the next budget), ``equivalent``; the columns of `overtrain.analysis.stability.stability`;
        ``n_diverged``, ``p_divergence``, ``n_budgets``, ``n_runs``, ``n_seeds``, ``n_documents``, ``covers`` and ``missing``
        (in words).
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        tests = CurveTests(merge_neighbours(assemble(part)), level, pooled, seed)
        if collect is not None:
            collect.append(tests)
        return verdict_of(tests, margin=margin, quantity=quantity)

    return per_group(frame, by, one)


def verdict_of(tests: CurveTests, *, margin: float | None = None, quantity: str = "loss") -> pd.DataFrame:
    """Return the row of `verdict` for ``tests``."""
    layout, shape, known = tests.layout, classify(tests, margin), tests.known
    where, adjacent, beside = minimum_interval(tests), first_rise(tests), stability(tests, margin)
    return pd.DataFrame(
        [
            {
                "verdict": shape,
                "sentence": sentence(tests, shape, margin, quantity, beside),
                "exploratory": layout.cells.shape[1] < 3,
                "rise": tests.largest_rise[0] if known else np.nan,
                "fall": tests.largest_fall[0] if known else np.nan,
                "fall_then_rise": tests.fall_then_rise[0] if known else np.nan,
                "critical": float(tests.critical[0]) if known else np.nan,
                "p_rise": tests.p_value(tests.largest_rise[0]) if known else np.nan,
                "rise_established": bool(known and tests.largest_rise[0] > tests.critical[0]),
                "fall_established": bool(known and tests.largest_fall[0] > tests.critical[0]),
                "rise_not_excluded": tests.rise_not_excluded if known else np.nan,
                "inflection": where["budget"],
                **{name: where[name] for name in ("after", "before", "left_censored", "right_censored")},
                "first_rise": adjacent.from_budget if adjacent else pd.NA,
                "first_rise_by": adjacent.increase if adjacent else np.nan,
                "equivalent": equivalent(tests, margin),
                **beside._asdict(),
                "n_diverged": 0 if layout.diverged is None else int(layout.diverged.sum()),
                "p_divergence": tests.p_divergence,
                "n_budgets": len(layout.budgets),
                "n_runs": layout.n_runs,
                "n_seeds": layout.n_seeds,
                "n_documents": layout.n_documents,
                "covers": layout.covers,
                "missing": "; ".join(layout.missing),
            }
        ]
    )
