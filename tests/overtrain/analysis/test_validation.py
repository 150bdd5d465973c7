"""A small part of the validation suite, and its machinery; `python -m benchmarks.statistics` is the whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.simulated.scenario import BARS, Bar
from benchmarks.statistics import CHUNK, Partial, all_scenarios, chunks_of, line, run_chunk, suite

ROOT = Path(__file__).parents[3]
STUDIES = 60
FAST = (
    "flat, seed noise alone",
    "flat, identical seeds",
    "unequal noise: 30 times along the curve",
    "seeds with slopes of 2 sd",
    "jitter of 1 sd, measured by one neighbour each",
    "jitter of 2 sd, not measured",
    "divergence: 2 of 3 seeds at the last budget, falling",
    "comparison: noise grows 30 times",
    "trend: rises and falls",
    "guessing among 4, 0% known",
    "law of distances",
    "slope of -0.7, ten times steeper above",
)


@pytest.fixture(scope="module")
def scenarios():
    return {scenario.name: scenario for scenario in all_scenarios()}


@pytest.mark.parametrize("name", FAST)
def test_bars_hold_on_few_studies(scenarios, name):
    scenario = scenarios[name]
    (chunk,) = chunks_of(scenario, STUDIES, 1)
    counts = run_chunk(chunk)[1]
    for bar in scenario.bars:
        entry = line(bar, *counts.get(bar.outcome, (0, 0)))
        assert entry.holds, f"{entry.what}: {entry.share:.1%} of {entry.studies}"


def test_names_are_unique_and_every_bar_has_a_kind():
    every = all_scenarios()
    assert len({scenario.name for scenario in every}) == len(every)
    assert {bar.kind for scenario in every for bar in scenario.bars} <= set(BARS)


def test_a_true_share_of_8_percent_misses_a_bar_of_5_5():
    bar = Bar("turn", "false finding", "turns")
    assert line(bar, 110, 2_000).holds
    assert not line(bar, 160, 2_000).holds
    # 8% of 2,000 are 160 on average, with a standard deviation of 12; two of those below are still missed
    assert not line(bar, 160 - 24, 2_000).holds
    assert not line(Bar("both", "never", "both"), 1, 2_000).holds
    assert not line(Bar("covers", "coverage", "interval"), 1_990, 2_000).holds
    assert not line(Bar("covers", "coverage", "interval"), 1_800, 2_000).holds


def test_an_interrupted_run_continues_from_its_chunks(tmp_path, scenarios):
    only, path, studies = "law of distances", tmp_path / "partial.jsonl", CHUNK + 5
    chunks = chunks_of(scenarios[only], studies, 0)
    assert [chunk.studies for chunk in chunks] == [CHUNK, 5]
    whole = suite(studies, 0, lambda _: None, partial=Partial(tmp_path / "other.jsonl"), processes=1, only=only)
    first = Partial(path)
    first.add(chunks[0], run_chunk(chunks[0])[1])
    with path.open("a") as file:
        file.write('{"source": "cut short by a ki')
    again = Partial(path)
    assert again.done == first.done
    told: list[str] = []
    assert suite(studies, 0, told.append, partial=again, processes=1, only=only) == whole
    assert len(told) == 2
    # whatever was finished is not run again
    assert suite(studies, 0, told.append, partial=Partial(path), processes=1, only=only) == whole


def test_chunks_of_another_source_are_not_used(tmp_path, scenarios):
    path = tmp_path / "partial.jsonl"
    (chunk,) = chunks_of(scenarios["law of distances"], 2, 0)
    Partial(path).add(chunk, {"rate": (2, 2)})
    entry = json.loads(path.read_text())
    path.write_text(json.dumps(entry | {"source": "other"}) + "\n")
    assert not Partial(path).done


def test_the_command_writes_what_it_found(tmp_path):
    out = tmp_path / "new" / "statistics.json"
    command = [sys.executable, "-m", "benchmarks.statistics", "--studies", "4", "--only", "trend", "--processes", "2"]
    done = subprocess.run(
        [*command, "--out", str(out), "--partial", str(tmp_path / "partial.jsonl")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.read_text())
    assert record["studies"] == 4
    assert record["holds"]
    assert {"python", "numpy", "scipy", "pandas"} <= set(record["versions"])
    assert {entry["kind"] for entry in record["lines"]} == {"false finding", "power", "never"}
    assert "6 lines of 4 studies, 0 bars missed" in done.stdout
