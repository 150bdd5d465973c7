"""Equality of two checkpoints: against scipy's one-sided tests, and how often it errs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.compare import compare
from overtrain.analysis.equivalence import DIFFERENT, EQUAL, UNDECIDED, equivalence
from overtrain.analysis.simulate import simulate_study


def compared(effect, se=1.0, df=10.0):
    return pd.DataFrame({"effect": np.atleast_1d(effect).astype(float), "se": se, "df": df})


def test_it_is_two_one_sided_paired_t_tests():
    frame = simulate_study([0.0, 0.02], np.random.default_rng(0), seeds=1, documents=80)
    before, after = (frame.loc[frame["budget"] == b, "y"].to_numpy() for b in (10**9, 2 * 10**9))
    row = equivalence(compare(frame, 10**9, 2 * 10**9), 0.1).iloc[0]
    tests = [
        stats.ttest_rel(after + 0.1, before, alternative="greater").pvalue,
        stats.ttest_rel(after - 0.1, before, alternative="less").pvalue,
    ]
    assert row["p_equal"] == pytest.approx(max(tests))
    interval = stats.ttest_rel(after, before).confidence_interval(0.9)
    assert (row["equal_low"], row["equal_high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_difference_that_is_not_significant_is_not_equality():
    told = equivalence(compared([0.0, 0.0, 9.0, -9.0]), pd.Series([3.0, 1.0, 3.0, 3.0]))
    assert told["equality"].tolist() == [EQUAL, UNDECIDED, DIFFERENT, DIFFERENT]


def test_equal_is_said_where_the_p_value_is_below_the_level():
    told = equivalence(compared(np.linspace(-6, 6, 81)), 2.5, level=0.05)
    assert ((told["equality"] == EQUAL) == (told["p_equal"] < 0.05)).all()
    assert told["equality"].nunique() == 3


def test_a_difference_of_the_margin_is_called_equal_in_five_percent():
    rng = np.random.default_rng(0)
    draws = rng.normal(1.0, 1.0, (4000, 12))  # the true difference is the margin
    told = equivalence(compared(draws.mean(1), draws.std(1, ddof=1) / np.sqrt(12), 11.0), 1.0)
    share = (told["equality"] == EQUAL).mean()
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.parametrize("se", [np.nan, 0.0])
def test_without_an_error_nothing_is_decided(se):
    (row,) = equivalence(compared(0.0, se), 1.0).to_dict("records")
    assert (row["equality"], np.isnan(row["p_equal"])) == (UNDECIDED, True)


def test_a_margin_of_nothing_is_refused():
    with pytest.raises(DataError, match="must be above 0"):
        equivalence(compared(0.0), 0.0)
