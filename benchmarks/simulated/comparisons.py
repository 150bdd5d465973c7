"""Comparisons of two budgets, trends, checks and counts of documents."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.simulated.curves import FLAT, grows
from benchmarks.simulated.scenario import SIMULATIONS, Bar, Outcomes, Scenario
from overtrain.analysis.checks import halves
from overtrain.analysis.compare import compare
from overtrain.analysis.simulate import simulate_study
from overtrain.analysis.transitions import known_by_one
from overtrain.analysis.trend import trend

if TYPE_CHECKING:
    import numpy as np


def comparison_study(rng: np.random.Generator, means: tuple[float, ...] = FLAT, **design: Any) -> Outcomes:
    """Compare the last budget with the first."""
    frame = simulate_study(means, rng, **{"documents": 1, **design})
    row = compare(frame, 10**9, 10**9 * 2 ** (len(means) - 1)).iloc[0]
    return {"covers": bool(row["low"] <= means[-1] - means[0] <= row["high"])}


def identical_study(rng: np.random.Generator) -> Outcomes:
    """Compare two budgets whose seeds are one training, up to rounding."""
    frame = simulate_study(FLAT, rng, seeds=1, seed_sd=0.0)
    copies = [frame.assign(seed=s, y=frame["y"] * (1 + 1e-9 * rng.standard_normal())) for s in range(3)]
    whole = pd.concat(copies, ignore_index=True)
    row = compare(whole.assign(seed=whole["seed"].astype("Int64")), 10**9, 32 * 10**9).iloc[0]
    return {"covers": bool(row["low"] <= 0 <= row["high"])}


def trend_study(rng: np.random.Generator, means: tuple[float, ...] = FLAT, **design: Any) -> Outcomes:
    """Test whether a curve of cells' means grows."""
    row = trend(simulate_study(means, rng, **{"documents": 1, **design}), simulations=SIMULATIONS).iloc[0]
    return {"grows": bool(row["grows"])}


def bent_trend_study(rng: np.random.Generator) -> Outcomes:
    """Test a curve that rises and falls below its start: it cannot both grow and shrink."""
    row = trend(simulate_study((0.0, 40.0, 0.0, 0.0, 0.0, -8.0), rng, documents=1), simulations=SIMULATIONS).iloc[0]
    return {"both": bool(row["grows"] and row["shrinks"]), "told": row["direction"] == "both ways"}


def halves_study(rng: np.random.Generator, **design: Any) -> Outcomes:
    """Compare two halves of the seeds, which have the same truth."""
    frame = simulate_study((0.0, 1.0, 2.0, 3.0, 4.0, 5.0), rng, **{"documents": 1, **design})
    return {"fails": not halves(frame)["passed"].iloc[0]}


def guessing_study(rng: np.random.Generator, know: float, documents: int = 400) -> Outcomes:
    """Count what a model forgets that knows the same before and after, and guesses the rest among four."""
    known = rng.random(documents) < know
    sides = [known | (rng.random(documents) < 0.25) for _ in range(2)]
    share, error = known_by_one(*sides, 0.25)
    lost, gained = (int((a & ~b).sum()) for a, b in (sides, sides[::-1]))
    return {"covers": abs(share) <= 1.96 * error, "plain": lost / documents > 0.1, "gains": gained > 0}


def scenarios() -> list[Scenario]:
    """Return the scenarios of this file."""
    cases: dict[str, dict[str, Any]] = {
        "equal noise": {},
        "noise grows 30 times": {"seed_sd": grows(30)},
        "noise grows 30 times, 4 budgets x 2 seeds": {"seed_sd": grows(30, 4), "means": (0.0,) * 4, "seeds": 2},
        "last budget 4 times as noisy": {"seed_sd": (1, 1, 1, 1, 1, 4)},
        "seeds with slopes of 2 sd": {"slope_sd": 2.0},
        "noise grows 30 times, 100 documents": {"seed_sd": grows(30), "documents": 100},
        "equal noise, 100 documents": {"documents": 100},
        "documents dominate": {"seed_sd": 0.1, "document_sd": 5.0, "documents": 100},
        "3 runs of 2 seeds": {"runs": 3, "seeds": 2, "run_sd": 1.0, "shared_run_sd": 3.0, "documents": 100},
        "6 runs of 1 seed": {"runs": 6, "seeds": 1, "run_sd": 1.0, "shared_run_sd": 3.0, "documents": 100},
    }
    found = [
        Scenario(
            f"comparison: {name}",
            partial(comparison_study, **design),
            (Bar("covers", "coverage", f"comparison of last and first budget: {name}"),),
        )
        for name, design in cases.items()
    ]
    found += [
        Scenario(
            "comparison: only seed-by-document noise",
            partial(comparison_study, seed_sd=0.0, document_sd=0.0, documents=100),
            (Bar("covers", "coverage, at least", "comparison of last and first budget: only seed-by-document noise"),),
        ),
        Scenario(
            "comparison: identical seeds",
            identical_study,
            (Bar("covers", "coverage", "comparison of last and first budget: identical seeds, 100 documents"),),
        ),
    ]
    trends: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("flat", "false finding", {}),
        ("flat, noise grows 30 times", "false finding", {"seed_sd": grows(30)}),
        ("flat, seeds with slopes of 2 sd", "false finding", {"slope_sd": 2.0}),
        ("grows by 3 sd in all", "power", {"means": (0.0, 0.2, 0.6, 1.2, 2.0, 3.0)}),
    )
    found += [
        Scenario(f"trend: {name}", partial(trend_study, **design), (Bar("grows", kind, f"trend: {name}"),))
        for name, kind, design in trends
    ]
    found += [
        Scenario(
            "trend: rises and falls",
            bent_trend_study,
            (
                Bar("both", "never", "trend, rises and falls below its start: both grows and shrinks"),
                Bar("told", "power", "trend, rises and falls below its start: said to go both ways"),
            ),
        ),
        Scenario("halves", halves_study, (Bar("fails", "false finding", "A/A check of two halves of 3 seeds fails"),)),
        Scenario(
            "halves of 6",
            partial(halves_study, seeds=6, seed_sd=grows(30)),
            (Bar("fails", "share", "A/A check of two halves of 6 seeds fails, noise grows 30 times"),),
        ),
    ]
    for know in (0.0, 0.3):
        what = f"guessing among 4, {know:.0%} known"
        found.append(
            Scenario(
                what,
                partial(guessing_study, know=know),
                (
                    Bar("covers", "coverage", f"{what}: interval of what is forgotten covers 0"),
                    Bar("plain", "share", f"{what}: more than a tenth changes from right to wrong"),
                ),
            )
        )
    return found
