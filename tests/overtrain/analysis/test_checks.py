import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.checks import adjacent, failed_checks, halves, sham
from overtrain.analysis.simulate import simulate_study


@pytest.mark.parametrize("seeds", [3, 6])
def test_halves_keep_their_level(seeds):
    rng = np.random.default_rng(0)
    passed = [
        halves(simulate_study([0, 1, 2, 3, 4, 5], rng, seeds=seeds, documents=1, shared_seed_sd=5)).iloc[0]["passed"]
        for _ in range(150)
    ]
    # at a true level of 5% more than 16 of 150 happen with probability 0.2%
    assert passed.count(False) <= 16


def test_halves_see_seeds_that_differ():
    frame = simulate_study([0.0] * 6, np.random.default_rng(1), seeds=6, documents=1)
    late = (frame["seed"] >= 3) & (frame["budget"] == 32 * 10**9)
    assert not halves(frame.assign(y=frame["y"] + 20 * late)).iloc[0]["passed"]
    with pytest.raises(DataError, match="three seeds or more"):
        halves(frame[frame["seed"] < 2])


def test_sham_modification():
    rng = np.random.default_rng(2)
    base = simulate_study([5.0, 4.0, 3.0], rng, seeds=1, documents=60)
    bare = base.assign(seed=pd.array([pd.NA] * len(base), dtype="Int64"))
    near = pd.concat([base.assign(seed=s, y=base["y"] + 0.1 * rng.standard_normal(len(base))) for s in range(3)])
    near["seed"] = near["seed"].astype("Int64")
    assert sham(near, bare)["passed"].all()
    assert sham(base, bare)["passed"].all()  # the identity
    moved = near.assign(y=near["y"] + (near["budget"] == 2 * 10**9))
    assert sham(moved, bare)["passed"].tolist() == [True, False, True]


def test_sham_without_repeats_is_missing():
    frame = simulate_study([5.0, 4.0], np.random.default_rng(3), seeds=1, documents=1)
    assert sham(frame, frame)["passed"].isna().all()


def test_adjacent_checkpoints():
    frame = simulate_study([0.0, 0.0, 9.0, 9.0], np.random.default_rng(4), seeds=4, seed_sd=0.3)
    order = {10**9 * 2**k: b for k, b in enumerate([1000, 1010, 1020, 8000])}
    table = adjacent(frame.assign(budget=frame["budget"].map(order)))
    assert table[["before", "after"]].to_numpy().tolist() == [[1000, 1010], [1010, 1020]]
    assert table["passed"].tolist() == [True, False]
    with pytest.raises(DataError, match="no two budgets lie within 2%"):
        adjacent(frame)


def test_a_failed_check_stands_beside_the_claims_on_its_curve():
    claims = pd.DataFrame(
        {"family": "f", "line": ["a", "a", "b", "c"], "endpoint": ["x", "y", "x", "x"]}, index=[3, 4, 5, 6]
    )
    checks = {
        "halves differ": pd.DataFrame({"family": "f", "line": ["a", "b", "c"], "passed": [False, True, pd.NA]}),
        "strength 0 moves": pd.DataFrame({"family": "f", "line": ["a", "a"], "passed": [True, False]}),
        "never made": pd.DataFrame(),
    }
    found = failed_checks(claims, checks)
    assert found.tolist() == ["halves differ; strength 0 moves", "halves differ; strength 0 moves", "", ""]
    assert found.index.tolist() == [3, 4, 5, 6]
