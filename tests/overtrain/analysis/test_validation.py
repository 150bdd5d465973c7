"""A small part of the validation suite; `python -m benchmarks.statistics` is the whole."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from overtrain.analysis.compare import compare
from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import TRUTHS, simulate_study
from overtrain.analysis.verdict import classify

ROOT = Path(__file__).parents[3]
STUDIES = 40


@pytest.mark.parametrize("truth", ["flat", "plateau", "falling"])
def test_false_turns(truth):
    rng = np.random.default_rng([1, len(truth)])
    means = np.array(TRUTHS[truth])
    turned, held, covered = 0, 0, 0
    last = int(np.flatnonzero(means == means.min())[-1])
    for _ in range(STUDIES):
        frame = simulate_study(means.tolist(), rng)
        tests = CurveTests(assemble(frame))
        turned += classify(tests) in {"turn", "U"}
        held += bool(tests.may_be_minimum[last])
        row = compare(frame, 10**9, 32 * 10**9).iloc[0]
        covered += bool(row["low"] <= means[-1] - means[0] <= row["high"])
    # Binomial: at a rate of 5% more than 6 of 40 happen with probability 0.3%, at 90% fewer than 30 with 0.2%.
    assert turned <= 6
    assert held >= 30
    assert covered >= 30


def test_a_u_is_found():
    rng = np.random.default_rng(2)
    found = [classify(CurveTests(assemble(simulate_study(TRUTHS["U"], rng)))) for _ in range(STUDIES)]
    # power is above 95%; fewer than 33 of 40 then happen with probability below 0.1%
    assert found.count("U") >= 33


@pytest.mark.parametrize("seed_sd", [(1, 1.6, 2.2, 2.8, 3.4, 4), (1, 1, 1, 1, 1, 4)])
def test_noise_that_grows_along_the_curve_makes_no_turns(seed_sd):
    rng = np.random.default_rng(3)
    shapes = [classify(CurveTests(assemble(simulate_study([0.0] * 6, rng, seed_sd=seed_sd)))) for _ in range(STUDIES)]
    assert sum(shape in {"turn", "U"} for shape in shapes) <= 6


def test_the_command_writes_what_it_found(tmp_path):
    out = tmp_path / "new" / "statistics.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.statistics", "--studies", "3", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.read_text())
    assert record["studies"] == 3
    assert record["holds"]
    assert {"python", "numpy", "scipy", "pandas"} <= set(record["versions"])
    kinds = {entry["kind"] for entry in record["lines"]}
    assert kinds == {"false turn", "coverage", "set", "power", "share"}
    for truth in TRUTHS:
        assert any(entry["what"].startswith(f"{truth}:") for entry in record["lines"])
    assert record["power"]["6 budgets x 3 seeds"][0] < 0.05
