"""The learning rate: the optimum, its slope over checkpoints, tuned curves, and the law of distances."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.simulated.curves import TURNS, grows
from benchmarks.simulated.scenario import Bar, Outcomes, Scenario
from overtrain.analysis.distance import distance_law
from overtrain.analysis.optima import optimum_slope, tuned_rates
from overtrain.analysis.simulate import simulate_study
from overtrain.analysis.tuned import tuned_verdict

if TYPE_CHECKING:
    from collections.abc import Callable

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""Of the tuned curves."""

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _exponentials(below: float, above: float) -> Callable[[Array], Array]:
    return lambda u: np.asarray(0.15 * ((np.exp(-below * u) - 1) / below + (np.exp(above * u) - 1) / above))


SHAPES: dict[str, Callable[[Array], Array]] = {
    "parabola": lambda u: 0.1 * u**2,
    "asymmetric (0.3, 0.9)": _exponentials(0.3, 0.9),
    "asymmetric (0.3, 1.5)": _exponentials(0.3, 1.5),
    "ten times steeper above": lambda u: np.where(u < 0, 0.05, 0.5) * u**2,
    "steep, then saturating above": lambda u: np.where(u < 0, 0.05 * u**2, 3 * (1 - np.exp(-(u**2) / 4))),
}
"""Excess loss against log2 of the rate over its optimum."""


REGIMES = {
    "constant": (-0.1, 0.1),
    "slowly decreasing": (-0.5, 0.0),
    "quickly decreasing": (-np.inf, -0.5),
    "increasing": (0.0, np.inf),
}
"""Slopes that each reading is right about."""


def _selection(values: Array, rng: np.random.Generator, grid: Array, budget: int = 10**9) -> pd.DataFrame:
    """Return three seeds' losses about the true ``values``; half of the studies are ten times as noisy as the others."""
    values = values[:, None] + rng.choice([0.005, 0.05]) * rng.standard_normal((len(grid), 3))
    index = np.indices(values.shape).reshape(2, -1)
    return pd.DataFrame(
        {
            "budget": budget,
            "run": "run0",
            "seed": pd.array(index[1], dtype="Int64"),
            "rate": 1e-5 * 2.0 ** grid[index[0]],
            "value": values.ravel(),
        }
    )


def optimum_study(rng: np.random.Generator, shape: str, step: float) -> Outcomes:
    """Estimate one checkpoint's optimum."""
    grid = np.arange(8) * step
    optimum = rng.uniform(2 * step, 5 * step)
    row = tuned_rates(_selection(SHAPES[shape](grid - optimum), rng, grid)).iloc[0]
    low, high = (np.log2(row[name] / 1e-5) for name in ("optimum_low", "optimum_high"))
    return {"covers": not (low > optimum or high < optimum), "bounded": bool(np.isfinite(low) and np.isfinite(high))}


def slope_study(rng: np.random.Generator, shape: str, slope: float, step: float) -> Outcomes:
    """Fit the slope of the optimum over six checkpoints."""
    grid = np.arange(10) * step
    first = rng.uniform(2 * step, 7 * step)
    first = max(first, 2 * step - 5 * slope)
    parts = [_selection(SHAPES[shape](grid - first - slope * k), rng, grid, 10**9 * 2**k) for k in range(6)]
    row = optimum_slope(tuned_rates(pd.concat(parts))).iloc[0]
    if np.isnan(row["slope"]):
        return {}
    right = {"undetermined"} | {name for name, (low, high) in REGIMES.items() if low <= slope <= high}
    return {"covers": bool(row["low"] <= slope <= row["high"]), "misread": row["regime"] not in right}


def distance_study(rng: np.random.Generator, checkpoints: int = 6) -> Outcomes:
    """Fit the law of distances where every checkpoint deviates from it in level and in slope."""
    rates = np.array([1e-5, 3e-5, 1e-4, 3e-4, 1e-3])
    budgets = 10**9 * 2 ** np.arange(checkpoints)
    shape = (checkpoints, len(rates), 3)
    log = np.log(rates)[:, None] * (1 + 0.05 * rng.standard_normal((checkpoints, 1, 1)))
    log = log + 0.1 * np.log2(budgets)[:, None, None] + 0.2 * rng.standard_normal((checkpoints, 1, 1))
    # Deviations in slope turn about the middle of the grid.
    log = log - np.log(rates).mean() * (log[:, -1:] - log[:, :1]) / (np.log(rates[-1]) - np.log(rates[0]))
    log = log + 0.05 * rng.standard_normal(shape)
    index = np.indices(shape).reshape(3, -1)
    frame = pd.DataFrame({"budget": budgets[index[0]], "rate": rates[index[1]], "distance": np.exp(log.ravel())})
    row = distance_law(frame).iloc[0]
    return {
        "rate": bool(row["rate_low"] <= 1 <= row["rate_high"]),
        "tokens": bool(row["tokens_low"] <= 0.1 <= row["tokens_high"]),
    }


def tuned_study(
    rng: np.random.Generator, penalty: tuple[float, ...], seed_sd: float | tuple[float, ...] = 0.5
) -> Outcomes:
    """Judge a curve that is flat at every rate and is tuned by a metric that may not tell two rates apart."""
    frames, marks = [], []
    for place, rate in enumerate(RATES):
        frame = simulate_study([float(place)] * 6, rng, documents=1, seed_sd=seed_sd)
        frames.append(frame.assign(rate=rate))
        marks.append(frames[-1].assign(value=penalty[place] + 0.1 * rng.standard_normal(len(frame))))
    row = tuned_verdict(pd.concat(frames, ignore_index=True), pd.concat(marks, ignore_index=True), replicates=1_000)
    return {"turn": row["verdict"].iloc[0] in TURNS}


def scenarios() -> list[Scenario]:
    """Return the scenarios of this file."""
    found = []
    for shape in SHAPES:
        for step in (1.0, 1.585):
            what = f"optimal rate, {shape}, grid of factors of {2**step:.0f}"
            bars = (
                Bar("covers", "optimum", f"{what}: interval"),
                Bar("bounded", "share", f"{what}: bounded on both sides"),
            )
            found.append(Scenario(what, partial(optimum_study, shape=shape, step=step), bars))
    for shape in ("asymmetric (0.3, 1.5)", "ten times steeper above"):
        for slope in (0.0, -0.1, -0.2, -0.7):
            what = f"slope of {slope:g}, {shape}"
            bars = (
                Bar("covers", "optimum", f"{what}: interval"),
                Bar("misread", "false finding", f"{what}: wrong regime"),
            )
            found.append(Scenario(what, partial(slope_study, shape=shape, slope=slope, step=1.0), bars))
    found.append(
        Scenario(
            "law of distances",
            distance_study,
            (
                Bar("rate", "coverage", "law of distances: slope over rates"),
                Bar("tokens", "coverage", "law of distances: slope over tokens"),
            ),
        )
    )
    cases = (
        ("tuned rate, two rates tied", (0.5, 0.0, 0.0, 0.5), 0.5),
        ("tuned rate, one clearly best", (0.9, 0.4, 0.0, 0.4), 0.5),
        ("tuned rate, one clearly best, noise grows 30 times", (0.9, 0.4, 0.0, 0.4), tuple(0.5 * x for x in grows(30))),
    )
    for what, penalty, seed_sd in cases:
        study = partial(tuned_study, penalty=penalty, seed_sd=seed_sd)
        found.append(Scenario(what, study, (Bar("turn", "false finding", what),)))
    return found
