"""A verdict in one sentence: what the curve does, how certain that is, and what no interval covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from overtrain.analysis.inflection import minimum_interval
from overtrain.analysis.shape import equivalent

if TYPE_CHECKING:
    from overtrain.analysis.inflection import CurveTests
    from overtrain.analysis.shape import Shape
    from overtrain.analysis.stability import Stability

__all__ = ["format_tokens", "sentence"]


def format_tokens(tokens: float) -> str:
    """Write a number of tokens briefly.

    >>> [format_tokens(n) for n in (20_480, 256_000, 16_384_000, 2.35e12, 3e12, 512)]
    ['20.5k', '256k', '16.4M', '2.35T', '3T', '512']
    """
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if tokens >= size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.0f}"


def sentence(tests: CurveTests, shape: Shape, margin: float | None, quantity: str, beside: Stability) -> str:
    """Say the verdict ``shape`` of ``tests`` with its uncertainty, and with what no interval covers.

    Args:
        tests: of the curve.
        shape: its verdict.
        margin: see `overtrain.analysis.verdict.verdict`.
        quantity: what the curve shows.
        beside: what one cell, one seed or jitter could change.
    """
    layout = tests.layout
    last = format_tokens(layout.budgets[-1])
    if not tests.known:
        told = f"Inconclusive: {_unknown(tests)}"
    elif shape in {"turn", "U"} and tests.diverges:
        told = f"{_name(shape)}: {quantity} {'falls and then diverges' if shape == 'U' else 'diverges'}, {_divergence(tests)}"
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
            f"(T = {value:.2f}, critical value {tests.critical[0]:.2f}); no inflection point established up to {last}, and a "
            f"rise of up to {tests.rise_not_excluded:.3g} is not excluded"
        )
    else:
        told = f"Inconclusive: {_why(tests)}; no inflection point established up to {last}"
    if shape in {"turn", "U", "monotone"} and not tests.diverges:
        told += _jitter(beside)
    return f"{told}{_one_cell(beside)} ({_basis(tests)})."


def _divergence(tests: CurveTests) -> str:
    diverged = tests.layout.diverged
    assert diverged is not None
    counts = diverged.sum(axis=1)
    where = ", ".join(
        f"{counts[k]} of {diverged.shape[1]} at {format_tokens(tests.layout.budgets[k])}"
        for k in np.flatnonzero(counts)
    )
    return f"later in pre-training than chance would place it ({where}; p = {tests.p_divergence:.2g})"


def _jitter(beside: Stability) -> str:
    if np.isfinite(beside.jitter_measured):
        return f"; jitter of neighbouring checkpoints is counted ({beside.jitter_measured:.3g})"
    if not np.isfinite(beside.jitter_tolerated):
        return ""
    seeds = beside.jitter_tolerated_in_seed_sd
    more = f", {seeds:.2g} standard deviations between seeds" if np.isfinite(seeds) else ""
    return f"; this stands while the jitter of checkpoints, not measured, is below {beside.jitter_tolerated:.2g}{more}"


def _one_cell(beside: Stability) -> str:
    if not beside.verdict_without_outlier:
        return ""
    return (
        f"; one cell at {format_tokens(beside.outlier_budget)} lies {beside.outlier_distance:.1f} standard deviations off, "
        f"and without it the verdict would be: {beside.verdict_without_outlier}"
    )


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
    if tests.layout.diverged is not None:
        return f"{int(tests.layout.diverged.sum())} cells diverged, not established to come late (p = {tests.p_divergence:.2g})"
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
    elif layout.cells.shape[1] == 2:
        parts[0] += ", so exploratory"
    if layout.n_documents < 2:
        parts[1] += ", so the choice of documents is not covered"
    if layout.n_runs > 1:
        parts.append(f"{layout.n_runs} pre-training runs per budget")
    else:
        parts.append("one pre-training run per budget, so no interval covers another pre-training")
    return "; ".join([*parts, *layout.missing])
