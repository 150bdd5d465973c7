import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from overtrain.analysis.contrasts import Contrasts, pairs
from overtrain.analysis.inflection import CurveTests, critical_values, first_rise, minimum_interval
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import TRUTHS, simulate_study


def study(means, seed=0, **design):
    return simulate_study(means, np.random.default_rng(seed), **{"seed_sd": 0.3, **design})


def test_critical_values_of_six_budgets_and_three_seeds():
    values = critical_values(6, 3, paired=False, pooled=True).iloc[0]
    # Known for this design: 3.05 and 2.50. A simulated 95% quantile of 20,000 draws has a standard error of 0.015 to 0.02.
    assert values["rise"] == pytest.approx(3.05, abs=0.07)
    assert values["confidence_set"] == pytest.approx(2.50, abs=0.05)


def test_critical_value_of_the_set_is_dunnetts():
    values = critical_values(6, 3, paired=False, pooled=True).iloc[0]
    correlation = np.full((5, 5), 0.5) + 0.5 * np.eye(5)
    dunnett = stats.multivariate_t(shape=correlation, df=12, seed=0)
    assert dunnett.cdf(np.full(5, values["confidence_set"])) == pytest.approx(0.95, abs=0.004)


def test_every_critical_value_grows_with_budgets_and_falls_with_seeds():
    few, many = critical_values(4, 3), critical_values(12, 3)
    assert (few.iloc[0] < many.iloc[0]).all()
    assert (critical_values(6, 8).iloc[0] < critical_values(6, 3).iloc[0]).all()


def curve_tests(means, seed=0, **design):
    return CurveTests(assemble(study(means, seed, **design)))


def test_rise_is_the_largest_pairwise_statistic():
    tests = curve_tests(TRUTHS["U"])
    first, second = pairs(6)[1]
    statistics = Contrasts(tests.layout, pairs(6)[0]).statistics
    best = int(statistics.argmax())
    assert tests.largest_rise == pytest.approx((statistics[best], first[best], second[best]))
    assert tests.p_value(tests.largest_rise[0]) < 0.001


def test_a_falling_curve_has_no_rise():
    tests = curve_tests(TRUTHS["falling"])
    assert tests.p_value(tests.largest_rise[0]) > 0.5


def test_fall_then_rise_by_brute_force():
    for seed in range(5):
        tests = CurveTests(assemble(study([3, 1, 2, 0, 2, 1], seed, seed_sd=1.0)))
        t = tests.pairwise
        best = max(
            min(
                max((-t[i, j] for i, j in itertools.combinations(range(k + 1), 2)), default=0.0),
                max((t[i, j] for i, j in itertools.combinations(range(k, 6), 2)), default=0.0),
            )
            for k in range(6)
        )
        assert tests.fall_then_rise[0] == pytest.approx(max(best, 0.0))


def test_a_u_and_what_is_none():
    value, place = curve_tests(TRUTHS["U"]).fall_then_rise
    assert value > curve_tests(TRUTHS["U"]).critical[0]
    assert place in {2, 3}
    for means in (TRUTHS["falling"], TRUTHS["falling"][::-1], (0, 3, 6, 6, 3, 0), TRUTHS["plateau"]):
        tests = curve_tests(means)
        assert tests.fall_then_rise[0] <= tests.critical[0]


def test_the_confidence_set_by_hand():
    tests = curve_tests(TRUTHS["U"])
    layout = tests.layout
    weights, (first, second) = pairs(6)
    errors = Contrasts(layout, weights).errors
    for k in range(6):
        worst = max(
            (layout.means[k] - layout.means[j]) / errors[(first == min(j, k)) & (second == max(j, k))][0]
            for j in range(6)
            if j != k
        )
        assert tests.above_lowest[k] == pytest.approx(worst)
        assert tests.may_be_minimum[k] == (worst <= tests.critical[2 + k])
    assert np.flatnonzero(tests.may_be_minimum).tolist() == [2, 3]


def test_the_interval_is_open_between_budgets_outside_the_set():
    row = minimum_interval(curve_tests(TRUTHS["U"]))
    assert (row["after"], row["before"]) == (2 * 10**9, 16 * 10**9)
    assert not row["left_censored"]
    assert not row["right_censored"]
    assert row["budget"] in {4 * 10**9, 8 * 10**9}


def test_censoring():
    falling = minimum_interval(curve_tests(TRUTHS["falling"]))
    assert falling["right_censored"]
    assert falling["before"] is pd.NA
    assert falling["budget"] == 32 * 10**9
    rising = minimum_interval(curve_tests(TRUTHS["falling"][::-1]))
    assert rising["left_censored"]
    assert rising["after"] is pd.NA
    assert rising["budget"] == 10**9


def test_first_rise_is_adjacent_with_a_lower_bound_above_zero():
    tests = curve_tests((5, 1, 1, 4, 8, 12))
    found = first_rise(tests)
    assert (found.from_budget, found.to_budget) == (4 * 10**9, 8 * 10**9)
    error = Contrasts(tests.layout, np.array([[0, 0, -1.0, 1.0, 0, 0]])).errors[0]
    assert found.lower == pytest.approx(found.increase - tests.critical[1] * error)
    assert found.lower > 0
    assert first_rise(curve_tests(TRUTHS["falling"])) is None


def test_nothing_repeated_is_unknown():
    tests = curve_tests(TRUTHS["U"], seeds=1, documents=1)
    assert not tests.known
    assert first_rise(tests) is None
    assert tests.may_be_minimum.all()


@pytest.mark.filterwarnings("error")
def test_budgets_that_score_every_document_alike_establish_nothing():
    """As in a study of the smallest noise, whose scores it does not change."""
    scores = np.random.default_rng(0).normal(size=40)
    frame = pd.DataFrame(
        {"budget": b, "run": "a", "seed": 0, "document": d, "y": y, "weight": 1.0}
        for b in (1, 2, 4, 8)
        for d, y in enumerate(scores)
    )
    tests = CurveTests(assemble(frame))
    assert tests.largest_rise[0] == 0
    assert tests.p_value(0.0) == 1
    assert tests.fall_then_rise[0] <= tests.critical[0]
    assert tests.may_be_minimum.all()
    assert tests.rise_not_excluded == 0
    assert first_rise(tests) is None
