"""Many verdicts at once: how often some turn is false, plain and adjusted for the family."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.simulated.curves import TURNS
from benchmarks.simulated.scenario import Bar, Outcomes, Scenario
from overtrain.analysis.family import adjusted_verdicts
from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.layout import from_cells
from overtrain.analysis.shape import classify

_SIMULATIONS = 600
"""Fewer than elsewhere: there are up to forty curves in a study."""


def family_study(rng: np.random.Generator, members: int, shared: float, rising: int = 0) -> Outcomes:
    """Judge ``members`` curves whose noise at a seed and budget is correlated by ``shared``; ``rising`` of them rise."""
    common = rng.standard_normal((6, 3))
    curves = []
    for place in range(members):
        cells = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.standard_normal((6, 3))
        cells[-1] += 5.0 if place < rising else 0.0
        curves.append(CurveTests(from_cells(cells), simulations=_SIMULATIONS))
    plain = [classify(tests) in TURNS for tests in curves]
    table = adjusted_verdicts(curves, simulations=_SIMULATIONS)
    found = table["verdict_family"].isin(TURNS).to_numpy()
    return {"plain": any(plain[rising:]), "adjusted": bool(found[rising:].any()), "found": bool(found[:rising].all())}


def scenarios() -> list[Scenario]:
    """Return the scenarios of this file."""
    found = []
    for members, shared in ((10, 0.0), (10, 0.7), (40, 0.0), (40, 0.7)):
        what = f"{members} flat curves, seeds correlated by {shared:g}"
        found.append(
            Scenario(
                what,
                partial(family_study, members=members, shared=shared),
                (
                    Bar("plain", "share", f"{what}: some turn, plain"),
                    Bar("adjusted", "false finding", f"{what}: some turn, adjusted"),
                ),
            )
        )
    what = "10 curves, one of which rises by 5 sd"
    found.append(
        Scenario(
            what,
            partial(family_study, members=10, shared=0.3, rising=1),
            (
                Bar("found", "power", f"{what}: found, adjusted"),
                Bar("adjusted", "false finding", f"{what}: some other turn, adjusted"),
            ),
        )
    )
    return found
