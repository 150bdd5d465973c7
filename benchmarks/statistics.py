"""Validate the statistics on simulated studies whose truth is known.

``python -m benchmarks.statistics [--studies 2000] [--seed 0] [--only TEXT] [--processes 2] [--out FILE]`` prints the share of
false turns, the coverage of intervals and the power of the tests, and exits with 1 where a bar is missed. A bar is missed
where an exact binomial test at 1% excludes it: of 2,000 studies with a true share of 8%, 1.5% pass a bar of 5.5%.

Finished chunks of studies are kept in ``--partial``; run the command again after an interruption and it continues. A changed
analysis starts anew, because chunks are kept under a hash of its source.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import multiprocessing
import os
import platform
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
from scipy import stats

from benchmarks.simulated import comparisons, curves, families, rates
from benchmarks.simulated.scenario import BARS, Bar, Scenario
from overtrain.analysis.design import minimum_detectable_effect, power_curve
from overtrain.analysis.inflection import critical_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[1]
CHUNK = 100
Counts = dict[str, tuple[int, int]]


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


@dataclass(frozen=True)
class Chunk:
    """Some studies of one scenario: the unit of work, and of what an interruption loses."""

    scenario: str
    first: int
    studies: int
    seed: int


def all_scenarios() -> list[Scenario]:
    """Return every scenario; names are unique, because they seed the studies."""
    return [*curves.scenarios(), *comparisons.scenarios(), *families.scenarios(), *rates.scenarios()]


def line(bar: Bar, hits: int, total: int) -> Line:
    """Judge a share: it fails where a one-sided exact binomial test at 1% puts it outside its bar."""
    low, high = BARS[bar.kind]
    above = high < 1 and stats.binom.sf(hits - 1, total, high) < 0.01
    below = low > 0 and stats.binom.cdf(hits, total, low) < 0.01
    return Line(bar.kind, bar.what, hits / total if total else np.nan, total, low, high, not (above or below))


def run_chunk(chunk: Chunk) -> tuple[Chunk, Counts, float]:
    """Run some studies; count how many had each outcome, and how many could have had it."""
    began = time.perf_counter()
    scenario = next(s for s in all_scenarios() if s.name == chunk.scenario)
    counts: Counts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for study in range(chunk.first, chunk.first + chunk.studies):
            rng = np.random.default_rng(np.random.SeedSequence([chunk.seed, *chunk.scenario.encode(), study]))
            for outcome, value in scenario.study(rng).items():
                hits, total = counts.get(outcome, (0, 0))
                counts[outcome] = hits + bool(value), total + 1
    return chunk, counts, time.perf_counter() - began


def source_hash() -> str:
    """Return a hash of everything that decides the outcome of a study."""
    files = sorted([*(ROOT / "overtrain" / "analysis").glob("*.py"), *(ROOT / "benchmarks" / "simulated").glob("*.py")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


class Partial:
    """Finished chunks in a file, one JSON line each; a line that a kill cut short is ignored."""

    def __init__(self, path: Path) -> None:
        self.path, self.source = path, source_hash()
        self.done: dict[Chunk, Counts] = {}
        for text in path.read_text().splitlines() if path.is_file() else []:
            try:
                entry = json.loads(text)
            except json.JSONDecodeError:
                continue
            if entry["source"] == self.source:
                counts = {name: (hits, total) for name, (hits, total) in entry["counts"].items()}
                self.done[Chunk(**entry["chunk"])] = counts

    def add(self, chunk: Chunk, counts: Counts) -> None:
        """Keep a finished chunk."""
        self.done[chunk] = counts
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"source": self.source, "chunk": asdict(chunk), "counts": counts}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def chunks_of(scenario: Scenario, studies: int, seed: int) -> list[Chunk]:
    """Cut a scenario's studies into chunks."""
    starts = range(0, studies, CHUNK)
    return [Chunk(scenario.name, first, min(CHUNK, studies - first), seed) for first in starts]


def run_all(chunks: Sequence[Chunk], processes: int) -> Iterator[tuple[Chunk, Counts, float]]:
    """Run chunks in order, in several processes where asked."""
    if processes < 2:
        yield from map(run_chunk, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run_chunk, chunks)


def suite(
    studies: int, seed: int, tell: Callable[[str], None], *, partial: Partial, processes: int, only: str = ""
) -> list[Line]:
    """Run every scenario and print its lines as soon as it is complete."""
    chosen = [scenario for scenario in all_scenarios() if only in scenario.name]
    wanted = {scenario.name: chunks_of(scenario, studies, seed) for scenario in chosen}
    missing = [chunk for scenario in chosen for chunk in wanted[scenario.name] if chunk not in partial.done]
    running = run_all(missing, processes)
    lines: list[Line] = []
    for scenario in chosen:
        seconds = 0.0
        while any(chunk not in partial.done for chunk in wanted[scenario.name]):
            chunk, counts, spent = next(running)
            partial.add(chunk, counts)
            seconds += spent
        for bar in scenario.bars:
            found = [partial.done[chunk].get(bar.outcome, (0, 0)) for chunk in wanted[scenario.name]]
            entry = line(bar, sum(hits for hits, _ in found), sum(total for _, total in found))
            lines.append(entry)
            limits = "" if (entry.low, entry.high) == (0.0, 1.0) else f"[{entry.low:.1%}, {entry.high:.1%}]"
            failed = "" if entry.holds else "  MISSED"
            tell(f"{entry.kind:<20} {entry.share:6.1%} {limits:<16} {entry.what}{failed}  ({seconds:.0f} s)")
    return lines


def power() -> dict[str, Any]:
    """Critical values, minimum detectable effects and power curves of a few designs, by Monte Carlo."""
    effects = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    designs = ((6, 3), (6, 5), (10, 3), (18, 3))
    named = {f"{budgets} budgets x {seeds} seeds": (budgets, seeds) for budgets, seeds in designs}
    detectable = {name: minimum_detectable_effect(*design).iloc[0] for name, design in named.items()}
    unpaired = minimum_detectable_effect(6, 3, paired=False, pooled=True)
    plain, used = critical_values(6, 3, paired=False, pooled=True).iloc[0], critical_values(6, 3).iloc[0]
    return {
        "critical_6x3_unpaired_pooled": {name: round(float(value), 3) for name, value in plain.items()},
        "critical_6x3": {name: round(float(value), 3) for name, value in used.items()},
        "effects": effects,
        "power": {name: power_curve(effects, *design)["power"].round(3).tolist() for name, design in named.items()},
        "detectable_in_seed_sd": {name: round(float(row["turn_in_seed_sd"]), 3) for name, row in detectable.items()},
        "comparison_in_seed_sd": {name: round(float(row["comparison"]), 3) for name, row in detectable.items()},
        "detectable_6x3_unpaired_pooled": round(float(unpaired["turn_in_seed_sd"].iloc[0]), 3),
    }


def tell_power(table: dict[str, Any], tell: Callable[[str], None]) -> None:
    """Print what `power` found."""
    tell(f"critical values, 6 x 3, unpaired and pooled: {table['critical_6x3_unpaired_pooled']}")
    tell(f"critical values, 6 x 3, as used:             {table['critical_6x3']}")
    tell(f"power of a turn by effect {table['effects']} (standard deviations between seeds)")
    for design, values in table["power"].items():
        turn, comparison = table["detectable_in_seed_sd"][design], table["comparison_in_seed_sd"][design]
        tell(f"  {design}: {values}, 80% at {turn}; the primary comparison at {comparison}")


def main() -> int:
    """Run the suite; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2_000, help="simulated studies per line (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="scenarios whose name contains this text")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write everything as JSON to this file")
    parser.add_argument(
        "--partial", type=Path, default=Path("statistics.partial.jsonl"), help="finished chunks, to continue from"
    )
    options = parser.parse_args()
    began = time.perf_counter()

    def tell(text: str) -> None:
        print(text, flush=True)

    partial = Partial(options.partial)
    lines = suite(options.studies, options.seed, tell, partial=partial, processes=options.processes, only=options.only)
    table = {} if options.only else power()
    if table:
        tell_power(table, tell)
    seconds = time.perf_counter() - began
    missed = [entry.what for entry in lines if not entry.holds]
    print(f"{len(lines)} lines of {options.studies} studies, {len(missed)} bars missed; {seconds:.0f} s")
    for what in missed:
        print(f"  missed: {what}")
    if options.out:
        record = {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "studies": options.studies,
            "seed": options.seed,
            "seconds": round(seconds, 1),
            "processes": options.processes,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "scipy": scipy.__version__,
                "pandas": pd.__version__,
            },
            "holds": not missed,
            "lines": [asdict(entry) for entry in lines],
            **table,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
