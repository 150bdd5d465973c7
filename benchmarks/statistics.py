"""Validate the statistics on simulated studies whose truth is known.

``python -m benchmarks.statistics [--studies 200] [--seed 0] [--out FILE]`` prints the rate of false turns, the coverage
of intervals and the power of the tests, and exits with 1 where a bar is missed: at most 5% false turns, coverage between
90% and 99%, both up to the Monte Carlo error of the number of studies. One thread, a few minutes.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
from scipy import stats

from overtrain.analysis.compare import compare
from overtrain.analysis.curves import trend
from overtrain.analysis.design import minimum_detectable_effect, power_curve
from overtrain.analysis.inflection import CurveTests, critical_values
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import TRUTHS, simulate_study
from overtrain.analysis.tuned import tuned_verdict
from overtrain.analysis.unimodal import mean_variances, valley
from overtrain.analysis.verdict import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
BARS = {
    "false turn": (0.0, 0.05),
    "coverage": (0.90, 0.99),
    "set": (0.90, 1.0),
    "power": (0.0, 1.0),
    "share": (0.0, 1.0),
}


@dataclass(frozen=True)
class Line:
    """One figure of the suite: a share of studies, its bar, and whether the bar holds up to Monte Carlo error."""

    kind: str
    what: str
    share: float
    studies: int
    low: float
    high: float
    holds: bool


def line(kind: str, what: str, hits: list[bool]) -> Line:
    """Judge a share: it fails where a one-sided exact binomial test at 1% puts it outside its bar."""
    low, high = BARS[kind]
    count, total = sum(hits), len(hits)
    above = high < 1 and stats.binom.sf(count - 1, total, high) < 0.01
    below = low > 0 and stats.binom.cdf(count, total, low) < 0.01
    return Line(kind, what, count / total, total, low, high, not (above or below))


def draws(studies: int, seed: int, name: str) -> Iterator[np.random.Generator]:
    """Yield one generator per study; every scenario has its own stream."""
    root = np.random.SeedSequence([seed, *name.encode()])
    for child in root.spawn(studies):
        yield np.random.default_rng(child)


def turns(studies: int, seed: int, name: str, means: tuple[float, ...], **design: Any) -> list[str]:
    """Return the verdict of every simulated study."""
    return [classify(CurveTests(assemble(simulate_study(means, rng, **design)))) for rng in draws(studies, seed, name)]


def truth(name: str, studies: int, seed: int) -> list[Line]:
    """Simulate one truth: verdicts, the set of minima, and two kinds of interval of last minus first budget."""
    means = np.array(TRUTHS[name])
    first, last = 10**9, 10**9 * 2 ** (len(means) - 1)
    found: dict[str, list[bool]] = {}
    for rng in draws(studies, seed, name):
        frame = simulate_study(tuple(means), rng)
        layout = assemble(frame)
        tests = CurveTests(layout)
        shape = classify(tests)
        effect = means[-1] - means[0]
        t = compare(frame, first, last).iloc[0]
        fit = valley(layout.means, 1 / mean_variances(layout))
        # The last budget among the true minima: of a plateau, the one that a false turn would leave out.
        minimum = int(np.flatnonzero(means == means.min())[-1])
        for key, value in (
            ("turn", shape in {"turn", "U"}),
            ("U", shape == "U"),
            ("monotone", shape == "monotone"),
            ("interior", 0 < int(layout.means.argmin()) < len(means) - 1),
            ("set", bool(tests.may_be_minimum[minimum])),
            ("fit", fit.minimum == minimum),
            ("t", bool(t["low"] <= effect <= t["high"])),
        ):
            found.setdefault(key, []).append(value)
    lines = [
        line("power" if name == "U" else "false turn", f"{name}: verdict turn or U", found["turn"]),
        line("coverage", f"{name}: t interval of last - first", found["t"]),
        line("set", f"{name}: the set of minima holds the last true one", found["set"]),
        line("share", f"{name}: an interior budget is simply the lowest (no test)", found["interior"]),
    ]
    if name == "falling":
        lines.append(line("power", "falling: verdict monotone", found["monotone"]))
    if name == "U":
        lines.append(line("power", "U: verdict U", found["U"]))
        lines.append(line("power", "U: the fit's minimum is the true one", found["fit"]))
    return lines


def designs(studies: int, seed: int) -> list[Line]:
    """Flat curves in other designs: each is the least favourable curve for a false turn."""
    flat = TRUTHS["flat"]
    cases: dict[str, tuple[tuple[float, ...], dict[str, Any]]] = {
        "flat, seed noise alone": (flat, {"documents": 1}),
        "flat, noise grows fourfold along the curve": (flat, {"seed_sd": (1, 1.6, 2.2, 2.8, 3.4, 4)}),
        "flat, last budget four times as noisy": (flat, {"seed_sd": (1, 1, 1, 1, 1, 4)}),
        "flat, one seed, 200 documents": (flat, {"seeds": 1, "seed_sd": 0.0, "documents": 200}),
        "flat, 12 documents, 1 seed": (flat, {"seeds": 1, "seed_sd": 0.0, "documents": 12}),
        "flat, documents dominate": (flat, {"seed_sd": 0.1, "document_sd": 5.0}),
        "flat, only seed-by-document noise": (flat, {"seed_sd": 0.0, "document_sd": 0.0}),
        "flat, 3 runs of 2 seeds": (flat, {"runs": 3, "seeds": 2, "run_sd": 1.0, "shared_run_sd": 3.0}),
        "flat, 3 runs of 1 seed": (flat, {"runs": 3, "seeds": 1, "run_sd": 1.0, "shared_run_sd": 3.0}),
        "flat, 18 budgets": ((0.0,) * 18, {}),
        "flat, 2 seeds": (flat, {"seeds": 2}),
        "flat, 5 seeds": (flat, {"seeds": 5}),
    }
    lines = []
    for name, (means, design) in cases.items():
        shapes = turns(studies, seed, name, means, **design)
        lines.append(line("false turn", name, [shape in {"turn", "U"} for shape in shapes]))
    # Why the variance is guarded: what the pooled one alone would do.
    name, noisy = "flat, last budget four times as noisy", (1, 1, 1, 1, 1, 4)
    shapes = [
        classify(CurveTests(assemble(simulate_study(flat, rng, seed_sd=noisy)), pooled=True))
        for rng in draws(studies, seed, name)
    ]
    lines.append(line("share", f"{name}: turns with the pooled variance alone", [s in {"turn", "U"} for s in shapes]))
    return lines


def intervals(studies: int, seed: int) -> list[Line]:
    """Coverage of the interval of a difference in designs where a formula could count a variance twice or not at all."""
    cases: dict[str, dict[str, Any]] = {
        "only seed-by-document noise": {"seed_sd": 0.0, "document_sd": 0.0},
        "documents dominate": {"seed_sd": 0.1, "document_sd": 5.0},
        "3 runs of 2 seeds": {"runs": 3, "seeds": 2, "run_sd": 1.0, "shared_run_sd": 3.0},
        "3 runs of 1 seed": {"runs": 3, "seeds": 1, "run_sd": 1.0, "shared_run_sd": 3.0},
        "6 runs of 1 seed": {"runs": 6, "seeds": 1, "run_sd": 1.0, "shared_run_sd": 3.0},
    }
    lines = []
    for name, design in cases.items():
        hits = []
        for rng in draws(studies, seed, name):
            row = compare(simulate_study(TRUTHS["flat"], rng, **design), 10**9, 32 * 10**9).iloc[0]
            hits.append(bool(row["low"] <= 0 <= row["high"]))
        lines.append(line("coverage", f"{name}: t interval", hits))
    return lines


def trends(studies: int, seed: int) -> list[Line]:
    """The trend test on sensitivities that do not grow, and on some that do."""
    lines = []
    for name, means, kind in (
        ("trend: flat", TRUTHS["flat"], "false turn"),
        ("trend: grows by 3 in all", (0.0, 0.2, 0.6, 1.2, 2.0, 3.0), "power"),
    ):
        hits = [bool(trend(simulate_study(means, rng))["grows"].iloc[0]) for rng in draws(studies, seed, name)]
        lines.append(line(kind, name, hits))
    return lines


def tuned(studies: int, seed: int) -> list[Line]:
    """A flat curve at every rate, tuned by a metric that does not tell two rates apart, between which the level differs."""
    lines = []
    for name, penalty, steps in (
        ("tuned rate, two rates tied", (0.5, 0.0, 0.0, 0.5), 1.0),
        ("tuned rate, one clearly best", (0.9, 0.4, 0.0, 0.4), 1.0),
    ):
        hits = []
        for rng in draws(studies, seed, name):
            frames, marks = [], []
            for place, rate in enumerate(RATES):
                frame = simulate_study([steps * place] * 6, rng, documents=1, seed_sd=0.5)
                frames.append(frame.assign(learning_rate=rate))
                noise = 0.1 * rng.standard_normal(len(frame))
                marks.append(frames[-1].assign(value=penalty[place] + noise))
            row = tuned_verdict(
                pd.concat(frames, ignore_index=True), pd.concat(marks, ignore_index=True), replicates=1_000
            )
            hits.append(row["verdict"].iloc[0] in {"turn", "U"})
        lines.append(line("false turn", name, hits))
    return lines


def equivalence(studies: int, seed: int) -> list[Line]:
    """The verdict plateau where the last budget lies exactly a margin away, and where all are equal."""
    lines = []
    for name, means, kind in (
        ("plateau found though the last budget is a margin away", (0.0, 0.0, 0.0, 0.0, 0.0, 3.0), "false turn"),
        ("plateau found where all budgets are equal", TRUTHS["flat"], "power"),
    ):
        hits = [
            classify(CurveTests(assemble(simulate_study(means, rng, seed_sd=0.5))), 3.0) == "plateau"
            for rng in draws(studies, seed, name)
        ]
        lines.append(line(kind, name, hits))
    return lines


def power() -> dict[str, Any]:
    """Critical values, minimum detectable effects and power curves of a few designs, by Monte Carlo."""
    effects = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    plain = critical_values(6, 3, paired=False, pooled=True).iloc[0]
    used = critical_values(6, 3).iloc[0]
    curves = {
        f"{budgets} budgets x {seeds} seeds": power_curve(effects, budgets, seeds)["power"].round(3).tolist()
        for budgets, seeds in ((6, 3), (6, 5), (10, 3), (18, 3))
    }
    detectable = {
        f"{budgets} budgets x {seeds} seeds": round(
            float(minimum_detectable_effect(budgets, seeds)["turn_in_seed_sd"].iloc[0]), 3
        )
        for budgets, seeds in ((6, 3), (6, 5), (10, 3), (18, 3))
    }
    unpaired = minimum_detectable_effect(6, 3, paired=False, pooled=True)
    return {
        "critical_6x3_unpaired_pooled": {name: round(float(value), 3) for name, value in plain.items()},
        "critical_6x3": {name: round(float(value), 3) for name, value in used.items()},
        "effects": effects,
        "power": curves,
        "detectable_in_seed_sd": detectable,
        "detectable_6x3_unpaired_pooled": round(float(unpaired["turn_in_seed_sd"].iloc[0]), 3),
    }


def suite(studies: int, seed: int, tell: Callable[[str], None]) -> tuple[list[Line], dict[str, Any]]:
    """Run everything and report as it goes."""
    lines: list[Line] = []
    parts: list[Callable[[], list[Line]]] = [partial(truth, name, studies, seed) for name in TRUTHS]
    parts += [partial(part, studies, seed) for part in (designs, intervals, trends, equivalence, tuned)]
    for part in parts:
        for entry in part():
            lines.append(entry)
            bar = "" if entry.kind in {"power", "share"} else f"  [{entry.low:.0%}, {entry.high:.0%}]"
            tell(f"{'' if entry.holds else 'FAILS '}{entry.kind:<11} {entry.share:7.1%}{bar:<14}  {entry.what}")
    table = power()
    tell(f"critical values, 6 x 3, unpaired and pooled: {table['critical_6x3_unpaired_pooled']}")
    tell(f"critical values, 6 x 3, as used:             {table['critical_6x3']}")
    tell(f"power of a turn by effect {table['effects']} (standard deviations between seeds)")
    for design, values in table["power"].items():
        tell(f"  {design}: {values}, 80% at {table['detectable_in_seed_sd'][design]}")
    return lines, table


def main() -> int:
    """Run the suite; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="simulated studies per scenario (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write everything as JSON to this file")
    options = parser.parse_args()
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines, table = suite(options.studies, options.seed, lambda text: print(text, flush=True))
    seconds = time.perf_counter() - began
    holds = all(entry.holds for entry in lines)
    print(f"{'all bars hold' if holds else 'SOME BARS ARE MISSED'}; {seconds:.0f} s")
    if options.out:
        record = {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "studies": options.studies,
            "seed": options.seed,
            "seconds": round(seconds, 1),
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "scipy": scipy.__version__,
                "pandas": pd.__version__,
            },
            "holds": holds,
            "lines": [asdict(entry) for entry in lines],
            **table,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
