"""Verdicts on one curve: false turns under every kind of noise, and what is found."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.simulated.scenario import SIMULATIONS, Bar, Outcomes, Scenario
from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.jitter import merge_neighbours
from overtrain.analysis.layout import Layout, assemble, from_cells
from overtrain.analysis.robust import companion
from overtrain.analysis.shape import classify
from overtrain.analysis.simulate import TRUTHS, simulate_cells, simulate_study
from overtrain.analysis.unimodal import mean_variances, valley

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = frozenset({"turn", "U"})
FLAT = (0.0,) * 6
LATE = (0.0, 0.0, 0.0, 0.0, 0.0, 2.5)


def grows(factor: float, budgets: int = 6) -> tuple[float, ...]:
    """Return standard deviations between seeds that grow evenly by ``factor`` in all."""
    return tuple(factor ** (k / (budgets - 1)) for k in range(budgets))


def tests_of(layout: Layout) -> CurveTests:
    """Return the tests of a curve with the number of simulations of this suite."""
    return CurveTests(layout, simulations=SIMULATIONS)


def cells_study(rng: np.random.Generator, means: tuple[float, ...] = FLAT, **design: Any) -> Outcomes:
    """Judge one curve of cells' means."""
    return {"turn": classify(tests_of(from_cells(simulate_cells(means, rng, **design)))) in TURNS}


def frame_study(rng: np.random.Generator, means: tuple[float, ...] = FLAT, **design: Any) -> Outcomes:
    """Judge one curve with documents."""
    return {"turn": classify(tests_of(assemble(simulate_study(means, rng, **design)))) in TURNS}


def truth_study(rng: np.random.Generator, means: tuple[float, ...]) -> Outcomes:
    """Judge one curve with documents: verdicts, the set of minima, the bound on rises."""
    layout = assemble(simulate_study(means, rng))
    tests = tests_of(layout)
    shape = classify(tests)
    true = np.array(means)
    rise = max(float((true[j] - true[:j]).max()) for j in range(1, len(true)))
    # The last budget among the true minima: of a plateau, the one that a false turn would leave out.
    minimum = int(np.flatnonzero(true == true.min())[-1])
    return {
        "turn": shape in TURNS,
        "U": shape == "U",
        "monotone": shape == "monotone",
        "set": bool(tests.may_be_minimum[minimum]),
        "bound": bool(tests.rise_not_excluded >= rise),
        "interior": 0 < int(layout.means.argmin()) < len(means) - 1,
        "fit": valley(layout.means, 1 / mean_variances(layout)).minimum == minimum,
    }


def late_rise_study(rng: np.random.Generator, means: tuple[float, ...], seeds: int) -> Outcomes:
    """Judge a curve that falls and then rises late by 2.5 standard deviations between seeds."""
    tests = tests_of(from_cells(simulate_cells(means, rng, seeds=seeds)))
    shape = classify(tests)
    found = {"monotone": shape == "monotone", "bound": tests.rise_not_excluded >= 2.5}
    return found | ({"bound if monotone": tests.rise_not_excluded >= 2.5} if shape == "monotone" else {})


def measured_jitter_study(rng: np.random.Generator, jitter_sd: float, neighbours: int = 2) -> Outcomes:
    """Judge a flat curve whose budgets are ``neighbours`` checkpoints each, all with jitter."""
    cells = simulate_cells((0.0,) * 6 * neighbours, rng, jitter_sd=jitter_sd)
    budgets = [10**6 * 2**k + 10**3 * n for k in range(6) for n in range(neighbours)]
    layout = merge_neighbours(from_cells(cells, budgets=budgets))
    return {"turn": classify(tests_of(layout)) in TURNS}


def unmeasured_jitter_study(rng: np.random.Generator, jitter_sd: float) -> Outcomes:
    """Judge a flat curve with jitter that nothing measures."""
    tests = tests_of(from_cells(simulate_cells(FLAT, rng, jitter_sd=jitter_sd)))
    turn = classify(tests) in TURNS
    return {"turn": turn, "claims": turn and tests.jitter_of_rise >= jitter_sd}


def outlier_study(rng: np.random.Generator, means: tuple[float, ...], by: float = 8.0) -> Outcomes:
    """Judge a curve one cell of which, drawn at random, lies off by ``by``."""
    cells = simulate_cells(means, rng)
    cells[rng.integers(0, len(means)), rng.integers(0, cells.shape[1])] += by
    tests = tests_of(from_cells(cells))
    without = companion(tests)
    plain = classify(tests) in TURNS
    return {"plain": plain, "robust": plain if without is None else classify(without) in TURNS}


def companion_study(rng: np.random.Generator, means: tuple[float, ...] = FLAT, **design: Any) -> Outcomes:
    """Judge a curve without an outlier by verdict and companion."""
    tests = tests_of(from_cells(simulate_cells(means, rng, **design)))
    without = companion(tests)
    return {"robust": classify(tests if without is None else without) in TURNS}


def diverged_study(rng: np.random.Generator, means: tuple[float, ...], where: Callable[..., Any]) -> Outcomes:
    """Judge a curve some of whose cells diverged."""
    cells = simulate_cells(means, rng)
    diverged = where(cells.shape, rng)
    cells[diverged] = cells[~diverged].max()
    layout = from_cells(cells)
    if diverged.any():
        layout = Layout(**{**vars(layout), "diverged": diverged})
    shape = classify(tests_of(layout))
    return {"turn": shape in TURNS, "monotone or plateau": shape in {"monotone", "plateau"}}


def anywhere(shape: tuple[int, int], rng: np.random.Generator, chance: float = 0.1) -> Any:
    """Return cells that diverged, each with the same chance."""
    return rng.random(shape) < chance


def last(shape: tuple[int, int], _: np.random.Generator, count: int = 3) -> Any:
    """Return the last budget's first ``count`` cells."""
    found = np.zeros(shape, bool)
    found[-1, :count] = True
    return found


def equivalence_study(rng: np.random.Generator, means: tuple[float, ...], **design: Any) -> Outcomes:
    """Ask whether a curve is a plateau within a margin of 3."""
    return {"plateau": classify(tests_of(assemble(simulate_study(means, rng, **design))), 3.0) == "plateau"}


def identical_study(rng: np.random.Generator) -> Outcomes:
    """Judge a flat curve whose seeds are one training, up to rounding."""
    frame = simulate_study(FLAT, rng, seeds=1, seed_sd=0.0)
    copies = [frame.assign(seed=s, y=frame["y"] * (1 + 1e-9 * rng.standard_normal())) for s in range(3)]
    import pandas as pd

    whole = pd.concat(copies, ignore_index=True)
    return {"turn": classify(tests_of(assemble(whole.assign(seed=whole["seed"].astype("Int64"))))) in TURNS}


def _turn(name: str, study: Callable[..., Outcomes], kind: str = "false finding", **design: Any) -> Scenario:
    return Scenario(name, partial(study, **design), (Bar("turn", kind, name),))


def scenarios() -> list[Scenario]:
    """Return the scenarios of this file."""
    found = []
    for name, means in TRUTHS.items():
        bars = [
            Bar("turn", "power" if name == "U" else "false finding", f"{name}: verdict turn or U"),
            Bar("set", "coverage, at least", f"{name}: the set of minima holds the last true one"),
            Bar(
                "bound", "coverage, at least", f"{name}: the largest rise lies below the bound of what is not excluded"
            ),
            Bar("interior", "share", f"{name}: an interior budget is simply the lowest (no test)"),
        ]
        if name == "falling":
            bars.append(Bar("monotone", "power", "falling: verdict monotone"))
        if name == "U":
            bars.append(Bar("U", "power", "U: verdict U"))
            bars.append(Bar("fit", "power", "U: the fit's minimum is the true one"))
        found.append(Scenario(name, partial(truth_study, means=means), tuple(bars)))
    found += [
        _turn("flat, seed noise alone", cells_study),
        _turn("flat, 5 seeds", cells_study, seeds=5),
        _turn("flat, 18 budgets", cells_study, means=(0.0,) * 18),
        _turn("flat, 4 budgets", cells_study, means=(0.0,) * 4),
        _turn("flat, 1 seed, 200 documents", frame_study, seeds=1, seed_sd=0.0, documents=200),
        _turn("flat, 1 seed, 12 documents", frame_study, seeds=1, seed_sd=0.0, documents=12),
        _turn("flat, documents dominate", frame_study, seed_sd=0.1, document_sd=5.0),
        _turn("flat, only seed-by-document noise", frame_study, seed_sd=0.0, document_sd=0.0),
        _turn("flat, 3 runs of 2 seeds", frame_study, runs=3, seeds=2, run_sd=1.0, shared_run_sd=3.0),
        _turn("flat, 3 runs of 1 seed", frame_study, runs=3, seeds=1, run_sd=1.0, shared_run_sd=3.0),
        _turn("flat, identical seeds", identical_study),
        _turn("unequal noise: 4 times along the curve", cells_study, seed_sd=grows(4)),
        _turn("unequal noise: 10 times along the curve", cells_study, seed_sd=grows(10)),
        _turn("unequal noise: 30 times along the curve", cells_study, seed_sd=grows(30)),
        _turn("unequal noise: 30 times, with documents", frame_study, seed_sd=grows(30)),
        _turn("unequal noise: last budget 4 times", cells_study, seed_sd=(1, 1, 1, 1, 1, 4)),
        _turn("unequal noise: first budget 4 times", cells_study, seed_sd=(4, 1, 1, 1, 1, 1)),
        _turn("unequal noise: 30 times, 5 seeds", cells_study, seed_sd=grows(30), seeds=5),
    ]
    found += [_turn(f"seeds with slopes of {sd:g} sd", cells_study, slope_sd=sd) for sd in (0.5, 1.0, 2.0, 5.0)]
    found += [
        _turn("seeds with slopes of 2 sd, 4 budgets", cells_study, slope_sd=2.0, means=(0.0,) * 4),
        _turn("seeds with slopes of 2 sd, 5 seeds", cells_study, slope_sd=2.0, seeds=5),
        _turn("seeds with slopes of 2 sd, with documents", frame_study, slope_sd=2.0),
        _turn("2 seeds (exploratory)", cells_study, "share", seeds=2),
        _turn("2 seeds (exploratory), slopes of 2 sd", cells_study, "share", seeds=2, slope_sd=2.0),
        _turn("2 seeds (exploratory), noise 30 times", cells_study, "share", seeds=2, seed_sd=grows(30)),
        _turn("late rise of 2.5 sd after a plateau", cells_study, "power", means=LATE),
    ]
    found += [
        _turn(f"jitter of {sd:g} sd, measured by one neighbour each", measured_jitter_study, jitter_sd=sd)
        for sd in (0.5, 1.0, 2.0)
    ]
    found += [
        Scenario(
            f"jitter of {sd:g} sd, not measured",
            partial(unmeasured_jitter_study, jitter_sd=sd),
            (
                Bar("turn", "share", f"jitter of {sd:g} sd, not measured: turn or U"),
                Bar("claims", "false finding", f"jitter of {sd:g} sd, not measured: turn that is said to stand it"),
            ),
        )
        for sd in (0.5, 1.0, 2.0)
    ]
    for seeds, means in ((3, (6.0, 3.0, 0.0, 0.0, 0.0, 2.5)), (2, (6.0, 0.0, 0.0, 2.5))):
        what = f"late rise of 2.5 sd after a fall, {len(means)} budgets x {seeds} seeds"
        found.append(
            Scenario(
                what,
                partial(late_rise_study, means=means, seeds=seeds),
                (
                    Bar("monotone", "share", f"{what}: called monotone"),
                    Bar("bound", "coverage, at least", f"{what}: the rise is not excluded"),
                ),
            )
        )
    found += [
        Scenario(
            "one outlier of +8 sd, late rise of 2.5 sd",
            partial(outlier_study, means=LATE),
            (
                Bar("plain", "share", "one outlier of +8 sd, late rise of 2.5 sd: verdict turn or U"),
                Bar("robust", "power, at least half", "one outlier of +8 sd, late rise of 2.5 sd: companion test"),
            ),
        ),
        Scenario(
            "one outlier of +8 sd, flat",
            partial(outlier_study, means=FLAT),
            (
                Bar("plain", "false finding", "one outlier of +8 sd, flat: verdict"),
                Bar("robust", "false finding", "one outlier of +8 sd, flat: companion test"),
            ),
        ),
        Scenario(
            "companion test, flat",
            companion_study,
            (Bar("robust", "false finding", "no outlier, flat: companion test"),),
        ),
        Scenario(
            "companion test, last budget 4 times as noisy",
            partial(companion_study, seed_sd=(1, 1, 1, 1, 1, 4)),
            (Bar("robust", "share", "no outlier, last budget 4 times as noisy: companion test (a known limit)"),),
        ),
        _turn("divergence: each cell with 10%, flat", diverged_study, means=FLAT, where=anywhere),
        _turn("divergence: each cell with 30%, flat", diverged_study, means=FLAT, where=partial(anywhere, chance=0.3)),
        _turn(
            "divergence: all seeds at the last budget, flat",
            diverged_study,
            "power, at least half",
            means=FLAT,
            where=last,
        ),
        Scenario(
            "divergence: 2 of 3 seeds at the last budget, falling",
            partial(diverged_study, means=TRUTHS["falling"], where=partial(last, count=2)),
            (Bar("monotone or plateau", "never", "divergence: 2 of 3 seeds at the last budget of a fall: monotone"),),
        ),
    ]
    wide = {"seed_sd": tuple(0.5 * sd for sd in grows(30))}
    for what, means, kind, design in (
        (
            "plateau found though the last budget is a margin away",
            (0.0,) * 5 + (3.0,),
            "false finding",
            {"seed_sd": 0.5},
        ),
        ("the same where noise grows 30 times", (0.0,) * 5 + (3.0,), "false finding", wide),
        ("plateau found where all budgets are equal", FLAT, "power", {"seed_sd": 0.5}),
    ):
        study = partial(equivalence_study, means=means, **design)
        found.append(Scenario(what, study, (Bar("plateau", kind, what),)))
    return found
