import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from overtrain.analysis.contrasts import Contrasts, pairs
from overtrain.analysis.inflection import (
    CurveTests,
    confidence_set,
    critical_values,
    first_rise,
    inflection_point,
    rise,
    u_shape,
)
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


def test_rise_is_the_largest_pairwise_statistic():
    frame = study(TRUTHS["U"])
    layout = assemble(frame)
    weights, (first, second) = pairs(6)
    statistics = Contrasts(layout, weights).statistics
    row = rise(frame).iloc[0]
    best = int(statistics.argmax())
    assert row["statistic"] == pytest.approx(statistics[best])
    assert (row["from_budget"], row["to_budget"]) == (layout.budgets[first[best]], layout.budgets[second[best]])
    assert row["increase"] == pytest.approx(layout.means[second[best]] - layout.means[first[best]])
    assert row["established"]
    assert row["p_value"] < 0.001


def test_a_falling_curve_has_no_rise():
    row = rise(study(TRUTHS["falling"])).iloc[0]
    assert not row["established"]
    assert row["p_value"] > 0.5


def test_fall_then_rise_by_brute_force():
    for seed in range(5):
        tests = CurveTests(assemble(study([3, 1, 2, 0, 2, 1], seed, seed_sd=1.0)))
        t = tests.square
        best = max(
            min(
                max((-t[i, j] for i, j in itertools.combinations(range(k + 1), 2)), default=0.0),
                max((t[i, j] for i, j in itertools.combinations(range(k, 6), 2)), default=0.0),
            )
            for k in range(6)
        )
        assert tests.fall_then_rise[0] == pytest.approx(max(best, 0.0))


def test_a_u_and_what_is_none():
    found = u_shape(study(TRUTHS["U"])).iloc[0]
    assert found["established"]
    assert found["at_budget"] in {4 * 10**9, 8 * 10**9}
    for means in (TRUTHS["falling"], TRUTHS["falling"][::-1], (0, 3, 6, 6, 3, 0), TRUTHS["plateau"]):
        assert not u_shape(study(means)).iloc[0]["established"]


def test_the_confidence_set_by_hand():
    frame = study(TRUTHS["U"])
    table = confidence_set(frame)
    layout = assemble(frame)
    weights, (first, second) = pairs(6)
    errors = Contrasts(layout, weights).errors
    for k in range(6):
        worst = max(
            (layout.means[k] - layout.means[j]) / errors[(first == min(j, k)) & (second == max(j, k))][0]
            for j in range(6)
            if j != k
        )
        assert table["statistic"][k] == pytest.approx(worst)
        assert table["in_set"][k] == (worst <= table["critical"][k])
    assert table.loc[table["in_set"], "budget"].tolist() == [4 * 10**9, 8 * 10**9]


def test_the_interval_is_open_between_budgets_outside_the_set():
    row = inflection_point(study(TRUTHS["U"])).iloc[0]
    assert (row["after"], row["before"]) == (2 * 10**9, 16 * 10**9)
    assert not row["left_censored"]
    assert not row["right_censored"]
    assert row["budget"] in {4 * 10**9, 8 * 10**9}


def test_censoring():
    falling = inflection_point(study(TRUTHS["falling"])).iloc[0]
    assert falling["right_censored"]
    assert falling["before"] is pd.NA
    assert falling["budget"] == 32 * 10**9
    rising = inflection_point(study(TRUTHS["falling"][::-1])).iloc[0]
    assert rising["left_censored"]
    assert rising["after"] is pd.NA
    assert rising["budget"] == 10**9


def test_first_rise_is_adjacent_with_a_lower_bound_above_zero():
    frame = study((5, 1, 1, 4, 8, 12))
    row = first_rise(frame).iloc[0]
    assert (row["from_budget"], row["to_budget"]) == (4 * 10**9, 8 * 10**9)
    layout = assemble(frame)
    error = Contrasts(layout, np.array([[0, 0, -1.0, 1.0, 0, 0]])).errors[0]
    assert row["lower"] == pytest.approx(row["increase"] - row["critical"] * error)
    assert row["lower"] > 0
    assert first_rise(study(TRUTHS["falling"])).iloc[0]["from_budget"] is pd.NA


def test_nothing_repeated_is_missing_not_zero():
    frame = study(TRUTHS["U"], seeds=1, documents=1)
    assert rise(frame).isna().all(axis=None)
    assert u_shape(frame).isna().all(axis=None)
    assert first_rise(frame).isna().all(axis=None)
    assert confidence_set(frame)["in_set"].all()
    assert confidence_set(frame)["statistic"].isna().all()


@pytest.mark.filterwarnings("error")
def test_budgets_that_score_every_document_alike_establish_nothing():
    """As in a study of the smallest noise, whose scores it does not change."""
    scores = np.random.default_rng(0).normal(size=40)
    frame = pd.DataFrame(
        {"budget": b, "run": "a", "seed": 0, "document": d, "y": y, "weight": 1.0}
        for b in (1, 2, 4, 8)
        for d, y in enumerate(scores)
    )
    row = rise(frame).iloc[0]
    assert (row["statistic"], row["p_value"], bool(row["established"])) == (0.0, 1.0, False)
    assert not u_shape(frame)["established"].any()
    assert confidence_set(frame)["in_set"].all()
    assert pd.isna(first_rise(frame)["from_budget"]).all()


def test_curves_by_group():
    both = pd.concat([study(TRUTHS["U"]).assign(gamma=0.1), study(TRUTHS["falling"]).assign(gamma=0.2)])
    table = rise(both, by=["gamma"])
    assert table["gamma"].tolist() == [0.1, 0.2]
    assert table["established"].tolist() == [True, False]
