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
