import numpy as np
import pandas as pd
import pytest
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.transitions import transitions


def scores(values, seed=0, budget=10, start=0):
    return pd.DataFrame(
        {
            "budget": budget,
            "run": "r",
            "seed": pd.array([seed] * len(values), dtype="Int64"),
            "document": range(start, start + len(values)),
            "y": np.array(values, float),
            "weight": 1.0,
        }
    )


def test_counts_by_hand():
    row = transitions(scores([1, 1, 1, 0, 0, 1, 1, 1]), scores([0, 1, 0, 1, 0, 0, 0, 0], budget=20)).iloc[0]
    assert (row["right_to_wrong"], row["wrong_to_right"]) == (5, 1)
    assert (row["both_right"], row["both_wrong"]) == (1, 1)
    assert row["net"] == -0.5
    assert row["p_value"] == pytest.approx(stats.binomtest(1, 6, 0.5).pvalue)
    assert row["unpaired"] == 0


def test_seeds_are_paired_with_seeds_and_with_a_seedless_base():
    after = pd.concat([scores([1, 0], seed=0), scores([0, 0], seed=1)])
    before = pd.concat([scores([1, 1], seed=0), scores([0, 1], seed=1)])
    assert transitions(before, after)["right_to_wrong"].tolist() == [1, 1]
    base = scores([1, 1], seed=pd.NA)
    table = transitions(base, after)
    assert table["seed"].tolist() == [0, 1]
    assert table["right_to_wrong"].tolist() == [1, 2]


def test_no_change_has_no_p_value():
    row = transitions(scores([1, 0]), scores([1, 0])).iloc[0]
    assert np.isnan(row["p_value"])
    assert row["net"] == 0


def test_documents_of_one_side_are_counted():
    row = transitions(scores([1, 0, 1]), scores([1, 1, 1], start=1)).iloc[0]
    assert (row["n_documents"], row["unpaired"]) == (2, 2)


def test_refusals():
    with pytest.raises(DataError, match=r"scores of 0 or 1, found 0\.5"):
        transitions(scores([0.5, 1]), scores([1, 1]))
    with pytest.raises(DataError, match="share no run, seed and document"):
        transitions(scores([1]), scores([1], start=7))


def test_guessing_is_no_forgetting():
    """The expected counts of two models that know 40% and 30%, 20% of the documents in common, and guess among four."""
    both, first, second, neither = 0.2, 0.2, 0.1, 0.5
    guess, n = 0.25, 1600
    shares = {
        (1, 1): both + first * guess + second * guess + neither * guess**2,
        (1, 0): first * (1 - guess) + neither * guess * (1 - guess),
        (0, 1): second * (1 - guess) + neither * guess * (1 - guess),
        (0, 0): neither * (1 - guess) ** 2,
    }
    pairs = np.concatenate([np.tile(pair, (round(n * share), 1)) for pair, share in shares.items()])
    row = transitions(scores(pairs[:, 0]), scores(pairs[:, 1]), chance=guess).iloc[0]
    assert len(pairs) == n
    assert row["forgotten"] == pytest.approx(first)
    assert row["learned"] == pytest.approx(second)
    assert row["forgotten_low"] < first < row["forgotten_high"]


def test_a_model_at_chance_forgets_nothing():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(100):
        row = transitions(scores(rng.random(200) < 0.25), scores(rng.random(200) < 0.25), chance=0.25).iloc[0]
        covered.append(row["forgotten_low"] <= 0 <= row["forgotten_high"])
    # at a coverage of 95% fewer than 87 of 100 happen with probability 0.1%
    assert sum(covered) >= 87


def test_without_a_chance_level_nothing_is_corrected():
    row = transitions(scores([1, 0]), scores([0, 0])).iloc[0]
    assert np.isnan(row["forgotten"])
    assert transitions(scores([1, 0]), scores([0, 0]), chance=0.0).iloc[0]["forgotten"] == 0.5
