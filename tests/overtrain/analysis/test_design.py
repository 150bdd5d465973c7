import numpy as np
import pytest

from model_wrappers.errors import ConfigError
from overtrain.analysis.design import minimum_detectable_effect, power_curve
from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import simulate_study
from overtrain.analysis.verdict import classify


def test_six_budgets_and_three_seeds_see_two_and_a_half_deviations():
    plain = {"paired": False, "pooled": True}
    # Known for seed noise alone: 2.5 standard deviations, 80%.
    assert power_curve([2.5], 6, 3, **plain)["power"].iloc[0] == pytest.approx(0.80, abs=0.02)
    assert minimum_detectable_effect(6, 3, **plain)["turn"].iloc[0] == pytest.approx(2.5, abs=0.1)
    # Paired seeds cost two degrees of freedom and the guard against growing noise some power.
    assert 2.5 < minimum_detectable_effect(6, 3)["turn"].iloc[0] < 2.8


def test_two_group_comparison_is_the_textbook_t_test():
    # Cohen: d = 0.5 at 80% power, two-sided 5%, takes 64 per group.
    row = minimum_detectable_effect(2, 64, paired=False).iloc[0]
    assert row["comparison"] == pytest.approx(0.5, abs=0.005)


def test_documents_alone_are_the_normal_formula():
    row = minimum_detectable_effect(6, 1, documents=10_000, document_sd=5.0).iloc[0]
    assert row["se"] == pytest.approx(0.05)
    assert row["comparison"] == pytest.approx((1.95996 + 0.84162) * 0.05, rel=1e-3)


def test_effects_scale_with_the_deviation():
    one, two = (minimum_detectable_effect(6, 3, seed_sd=sd).iloc[0] for sd in (1.0, 2.0))
    assert two["turn"] == pytest.approx(2 * one["turn"], rel=1e-2)
    assert two["turn_in_seed_sd"] == pytest.approx(one["turn_in_seed_sd"], rel=1e-2)


def test_runs_are_what_counts_where_they_vary():
    runs = minimum_detectable_effect(6, 2, runs=3, run_sd=1.0, seed_sd=1.0).iloc[0]
    seeds = minimum_detectable_effect(6, 3, seed_sd=np.sqrt(1.5)).iloc[0]
    assert runs["turn"] == pytest.approx(seeds["turn"], rel=1e-2)


def test_nothing_repeated_detects_nothing():
    table = minimum_detectable_effect(6, 1)
    assert table[["turn", "comparison", "se", "critical"]].isna().all(axis=None)


def test_power_is_that_of_the_whole_pipeline():
    rng = np.random.default_rng(0)
    means = [0.0] * 5 + [2.65]
    hits = [
        classify(CurveTests(assemble(simulate_study(means, rng, documents=1)))) in {"turn", "U"} for _ in range(120)
    ]
    expected = power_curve([2.65], 6, 3)["power"].iloc[0]
    # standard error 3.6%
    assert np.mean(hits) == pytest.approx(expected, abs=0.11)


def test_power_grows_with_effect_and_starts_below_the_level():
    power = power_curve([0, 1, 2, 3, 5], 6, 3)["power"]
    assert power.is_monotonic_increasing
    assert power.iloc[0] <= 0.05
    assert power.iloc[-1] > 0.99


def test_refusals():
    with pytest.raises(ConfigError, match="a design needs two budgets"):
        minimum_detectable_effect(1, 3)
    with pytest.raises(ConfigError, match="none may be negative"):
        minimum_detectable_effect(6, 3, seed_sd=-1)
