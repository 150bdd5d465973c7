"""One verdict per curve and one sentence that says it, with its uncertainty and with what no interval covers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from overtrain.analysis.inflection import LEVEL, CurveTests, first_rise, minimum_interval
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import per_group

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Shape", "classify", "equivalent", "format_tokens", "verdict", "verdict_of"]

Shape = Literal["turn", "U", "plateau", "monotone", "inconclusive"]


def format_tokens(tokens: float) -> str:
    """Write a number of tokens briefly.

    >>> [format_tokens(n) for n in (20_480, 256_000, 16_384_000, 2.35e12, 3e12, 512)]
    ['20.5k', '256k', '16.4M', '2.35T', '3T', '512']
    """
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if tokens >= size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.0f}"


def verdict(
    frame: pd.DataFrame,
    level: float = LEVEL,
    *,
    margin: float | None = None,
    by: Sequence[str] = (),
    quantity: str = "loss",
    pooled: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Say what a curve does from its first budget to its last.

    - *turn*: a rise is established and the last budget is not in the confidence set of the minimum;
    - *U*: a fall before the rise is established too (intersection-union);
    - *plateau*: all budgets are equivalent within ``margin``;
    - *monotone*: a fall is established, no rise is, and the last budget may hold the minimum;
    - *inconclusive*: none of these, or nothing to estimate a standard error from.

    Args:
        frame: the long form, lower is better; several curves if ``by`` names the columns that tell them apart.
        level: of every test.
        margin: largest difference that does not matter, in the unit of ``y``, set before the study runs; without it no
            plateau is ever found.
        by: columns that name a curve.
        quantity: what ``y`` is, for the sentence.
        pooled: see `overtrain.analysis.contrasts.unit_variance`.
        seed: of the simulation of critical values.

    Returns:
        One row per curve: ``verdict``, ``sentence``, ``rise``, ``fall``, ``fall_then_rise`` (statistics), ``critical``,
        ``p_rise``, ``rise_established``, ``fall_established``, ``inflection`` (tokens) with ``after``, ``before``,
        ``left_censored``, ``right_censored``, ``first_rise`` (tokens; see `overtrain.analysis.inflection.first_rise`) with
        ``first_rise_by`` (increase to the next budget), ``equivalent``, ``n_budgets``, ``n_runs``, ``n_seeds``,
        ``n_documents``, ``covers`` and ``missing`` (in words).
    """
    return per_group(
        frame,
        by,
        lambda part: verdict_of(CurveTests(assemble(part), level, pooled, seed), margin=margin, quantity=quantity),
    )


def equivalent(tests: CurveTests, margin: float | None) -> bool:
    """Return whether every two budgets differ by less than ``margin``: two one-sided tests per pair, all must reject."""
    if margin is None or not tests.known:
        return False
    t = stats.t.ppf(1 - tests.level, tests.contrasts.freedom)
    return bool((np.abs(tests.contrasts.estimates) + t * tests.contrasts.errors < margin).all())


def classify(tests: CurveTests, margin: float | None = None) -> Shape:
    """Return the verdict of ``tests``; see `verdict`."""
    if not tests.known:
        return "inconclusive"
    critical = tests.critical[0]
    rises, falls = tests.largest_rise[0] > critical, tests.largest_fall[0] > critical
    if rises and not tests.may_be_minimum[-1]:
        return "U" if tests.fall_then_rise[0] > critical else "turn"
    if equivalent(tests, margin):
        return "plateau"
    if falls and not rises and tests.may_be_minimum[-1]:
        return "monotone"
    return "inconclusive"


def verdict_of(tests: CurveTests, *, margin: float | None = None, quantity: str = "loss") -> pd.DataFrame:
    """Return the row of `verdict` for ``tests``."""
    layout, shape, known = tests.layout, classify(tests, margin), tests.known
    where, adjacent = minimum_interval(tests), first_rise(tests)
    return pd.DataFrame(
        [
            {
                "verdict": shape,
                "sentence": _sentence(tests, shape, margin, quantity),
                "rise": tests.largest_rise[0] if known else np.nan,
                "fall": tests.largest_fall[0] if known else np.nan,
                "fall_then_rise": tests.fall_then_rise[0] if known else np.nan,
                "critical": float(tests.critical[0]) if known else np.nan,
                "p_rise": tests.p_value(tests.largest_rise[0]) if known else np.nan,
                "rise_established": bool(known and tests.largest_rise[0] > tests.critical[0]),
                "fall_established": bool(known and tests.largest_fall[0] > tests.critical[0]),
                "inflection": where["budget"],
                **{name: where[name] for name in ("after", "before", "left_censored", "right_censored")},
                "first_rise": adjacent.from_budget if adjacent else pd.NA,
                "first_rise_by": adjacent.increase if adjacent else np.nan,
                "equivalent": equivalent(tests, margin),
                "n_budgets": len(layout.budgets),
                "n_runs": layout.n_runs,
                "n_seeds": layout.n_seeds,
                "n_documents": layout.n_documents,
                "covers": layout.covers,
                "missing": "; ".join(layout.missing),
            }
        ]
    )


def _sentence(tests: CurveTests, shape: Shape, margin: float | None, quantity: str) -> str:
    layout = tests.layout
    last = format_tokens(layout.budgets[-1])
    if not tests.known:
        told = f"Inconclusive: {_unknown(tests)}"
    elif shape in {"turn", "U"}:
        both = "falls and then rises" if shape == "U" else "rises"
        told = f"{_name(shape)}: {quantity} {both}, {_rise(tests)}; {_minimum(tests)}"
        if equivalent(tests, margin):
            told += f", though all budgets lie within the margin of {margin:g}"
    elif shape == "plateau":
        told = f"Plateau: {quantity} differs by less than the margin of {margin:g} between any two budgets up to {last}"
    elif shape == "monotone":
        value, i, j = tests.largest_fall
        told = (
            f"Monotone: {quantity} falls by {layout.means[i] - layout.means[j]:.3g} from "
            f"{format_tokens(layout.budgets[i])} to {format_tokens(layout.budgets[j])} tokens "
            f"(T = {value:.2f}, critical value {tests.critical[0]:.2f}); no inflection point established up to {last}"
        )
    else:
        told = f"Inconclusive: {_why(tests)}; no inflection point established up to {last}"
    return f"{told} ({_basis(tests)})."


def _name(shape: Shape) -> str:
    return "U" if shape == "U" else "Turn"


def _rise(tests: CurveTests) -> str:
    value, i, j = tests.largest_rise
    budgets, means = tests.layout.budgets, tests.layout.means
    return (
        f"by {means[j] - means[i]:.3g} from {format_tokens(budgets[i])} to {format_tokens(budgets[j])} tokens "
        f"(T = {value:.2f}, critical value {tests.critical[0]:.2f})"
    )


def _minimum(tests: CurveTests) -> str:
    where = minimum_interval(tests)
    confidence = f"{100 * (1 - tests.level):.0f}% confidence"
    if where["left_censored"]:
        first = format_tokens(tests.layout.budgets[0])
        return f"the minimum lies before {format_tokens(where['before'])} ({confidence}), possibly before {first}"
    return (
        f"the minimum lies between {format_tokens(where['after'])} and {format_tokens(where['before'])} ({confidence})"
    )


def _why(tests: CurveTests) -> str:
    rise, fall, critical = tests.largest_rise[0], tests.largest_fall[0], tests.critical[0]
    numbers = f"largest rise T = {rise:.2f}, largest fall T = {fall:.2f}, critical value {critical:.2f}"
    if rise > critical:
        return f"a rise is established, {_rise(tests)}, but the last budget may still hold the minimum"
    if fall > critical:
        return f"a fall is established and the last budget is not the minimum, but no rise is established ({numbers})"
    return f"neither a rise nor a fall is established ({numbers})"


def _unknown(tests: CurveTests) -> str:
    if len(tests.layout.budgets) < 2:
        return "fewer than two budgets have results"
    return "one seed and one score per cell leave nothing to estimate a standard error from"


def _basis(tests: CurveTests) -> str:
    layout = tests.layout
    seeds = f"{layout.n_seeds} seed{'s' if layout.n_seeds > 1 else ''}"
    documents = f"{layout.n_documents} documents" if layout.n_documents > 1 else "no scores per document"
    parts = [seeds, documents]
    if layout.cells.shape[1] == 1:
        parts[0] += ", so variation between seeds is not covered"
    if layout.n_documents < 2:
        parts[1] += ", so the choice of documents is not covered"
    if layout.n_runs > 1:
        parts.append(f"{layout.n_runs} pre-training runs per budget")
    else:
        parts.append("one pre-training run per budget, so no interval covers another pre-training")
    return "; ".join([*parts, *layout.missing])
