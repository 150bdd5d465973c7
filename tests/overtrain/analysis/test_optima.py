import numpy as np
import pandas as pd
import pytest
from scipy import stats

from overtrain.analysis.optima import optimum_slope, over_near_rates, rate_table, regime, tuned_rates

RATES = np.array([1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3])


def selection(optimum, budget=10**9, seeds=3, noise=0.0, rng=None, curvature=0.1, rates=RATES):
    rows = []
    for seed in range(seeds):
        for rate in rates:
            value = 2 + curvature * (np.log2(rate) - np.log2(optimum)) ** 2
            value += noise * rng.standard_normal() if rng is not None else 0
            rows.append((budget, "run0", seed, rate, value))
    frame = pd.DataFrame(rows, columns=["budget", "run", "seed", "rate", "value"])
    return frame.assign(seed=frame["seed"].astype("Int64"))


def test_an_exact_parabola_is_recovered():
    row = tuned_rates(selection(3e-4)).iloc[0]
    assert row["optimum"] == pytest.approx(3e-4)
    assert row["rate"] in {2e-4, 4e-4}
    assert not row["at_edge"]
    # Convexity alone leaves open what its neighbours' lines leave open: by hand, with u = log2(rate / optimum), y = 0.1 u^2.
    u = np.log2(RATES / 3e-4)
    y = 0.1 * u**2
    line_left = u[1] - (y[1] - y[2]) / (y[1] - y[0])
    line_right = u[3] - (y[3] - y[2]) / (y[4] - y[3])
    assert np.log2(row["optimum_low"] / 3e-4) == pytest.approx(line_left, abs=1 / 16)
    assert np.log2(row["optimum_high"] / 3e-4) == pytest.approx(line_right, abs=1 / 16)
    assert row["n_missing"] == 0


@pytest.mark.parametrize("optimum", [5e-5, 4e-3])
def test_an_optimum_outside_the_grid_is_flagged_and_not_extrapolated(optimum):
    row = tuned_rates(selection(optimum)).iloc[0]
    assert row["at_edge"]
    assert np.isnan(row["optimum"])


def test_a_parabola_that_opens_downwards_has_no_optimum():
    row = tuned_rates(selection(4e-4, curvature=-0.1)).iloc[0]
    assert np.isnan(row["optimum"])
    assert row["at_edge"]


def lopsided(optimum, rng, noise, rates=RATES):
    """Loss that rises slowly below the best rate and steeply above it."""
    frame = selection(optimum, rates=rates)
    u = np.log2(frame["rate"] / optimum)
    value = 0.15 * ((np.exp(-0.3 * u) - 1) / 0.3 + (np.exp(1.5 * u) - 1) / 1.5)
    return frame.assign(value=value + noise * rng.standard_normal(len(frame)))


@pytest.mark.parametrize("noise", [0.002, 0.05])
def test_the_interval_covers_the_optimum_of_an_asymmetric_curve(noise):
    rng = np.random.default_rng(0)
    rates = 1e-4 * 2.0 ** np.arange(8)
    hits = []
    for _ in range(60):
        optimum = 4e-4 * 2 ** rng.uniform(0, 3)
        row = tuned_rates(lopsided(optimum, rng, noise, rates)).iloc[0]
        hits.append(not (row["optimum_low"] > optimum or row["optimum_high"] < optimum))
    # at a true coverage of 90% fewer than 47 of 60 happen with probability 0.4%
    assert sum(hits) >= 47


def test_a_flat_curve_bounds_no_optimum():
    rng = np.random.default_rng(1)
    flat = [tuned_rates(selection(4e-4, noise=0.1, rng=rng, curvature=0.0)).iloc[0] for _ in range(40)]
    bounded = sum(not np.isnan(row["optimum_low"]) and not np.isnan(row["optimum_high"]) for row in flat)
    # an end is bounded falsely in at most 5% of studies; more than 6 of 40 happen with probability 0.3%
    assert bounded <= 6


def test_a_diverged_rate_is_never_best_and_closes_the_grid():
    frame = selection(1.6e-3, rates=np.append(RATES, 3.2e-3))
    frame.loc[frame["rate"] == 3.2e-3, "value"] = np.inf
    table = rate_table(frame)
    assert table["best"].tolist() == [False] * 4 + [True, False]
    assert table["n_diverged"].tolist() == [0] * 5 + [3]
    row = tuned_rates(frame).iloc[0]
    assert row["rate"] == 1.6e-3
    assert not row["at_edge"]
    assert row["n_diverged"] == 3


def test_rates_within_one_standard_error():
    frame = selection(4e-4, curvature=0.01)
    noise = {0: 0.02, 1: -0.02, 2: 0.0}
    sign = frame["rate"].map(dict(zip(RATES, [1, -1, 1, -1, 1], strict=True)))
    frame["value"] += frame["seed"].map(noise).astype(float) * sign
    table = rate_table(frame)
    # residuals +-0.02 about seed and rate: squares sum over 5 rates less the seeds' means
    residual = np.outer([1, -1, 1, -1, 1], [0.02, -0.02, 0.0])
    residual = residual - residual.mean(axis=0)
    expected = np.sqrt((residual**2).sum() / (4 * 2) / 3)
    np.testing.assert_allclose(table["se"], expected)
    reach = table["mean"].min() + np.sqrt(2) * expected
    assert table["near"].tolist() == (table["mean"] <= reach).tolist()
    assert table["near"].tolist() == [False, True, True, True, False]
    assert table.loc[table["best"], "rate"].tolist() == [4e-4]
    row = tuned_rates(frame).iloc[0]
    assert (row["near_low"], row["near_high"]) == (2e-4, 8e-4)


def test_a_rate_with_a_missing_seed_is_neither_best_nor_averaged():
    frame = selection(4e-4)
    frame.loc[(frame["rate"] == 4e-4) & (frame["seed"] == 1), "value"] = np.nan
    table = rate_table(frame).set_index("rate")
    assert np.isnan(table.loc[4e-4, "mean"])
    assert not table.loc[4e-4, "near"]
    assert table.loc[4e-4, "n_missing"] == 1
    row = tuned_rates(frame).iloc[0]
    assert row["rate"] in {2e-4, 8e-4}
    assert row["n_missing"] == 1


def test_a_checkpoint_without_any_value_stays_missing():
    row = tuned_rates(selection(4e-4).assign(value=np.nan)).iloc[0]
    assert np.isnan(row["rate"])
    assert row["at_edge"] is pd.NA


def test_slope_is_scipys():
    rng = np.random.default_rng(1)
    budgets = 10**9 * 2 ** np.arange(6)
    optima = 1e-3 * 2.0 ** (-0.3 * np.arange(6) + 0.1 * rng.standard_normal(6))
    rates = pd.DataFrame({"budget": budgets, "optimum": optima, "at_edge": False})
    row = optimum_slope(rates).iloc[0]
    fit = stats.linregress(np.log2(budgets), np.log2(optima))
    width = stats.t.ppf(0.975, 4) * fit.stderr
    assert row["slope"] == pytest.approx(fit.slope)
    assert (row["low"], row["high"]) == (pytest.approx(fit.slope - width), pytest.approx(fit.slope + width))
    assert row["regime"] == "slowly decreasing"


def test_edges_are_left_out_of_the_slope_and_counted():
    parts = [selection(1.6e-3 * 2.0 ** (-0.8 * k), 10**9 * 2**k) for k in range(6)]
    row = optimum_slope(tuned_rates(pd.concat(parts))).iloc[0]
    assert row["slope"] == pytest.approx(-0.8)
    assert row["n_at_edge"] + row["n_checkpoints"] == 6
    assert row["n_at_edge"] >= 1
    assert row["regime"] == "quickly decreasing"


def test_too_few_checkpoints_have_no_slope():
    row = optimum_slope(tuned_rates(selection(4e-4))).iloc[0]
    assert np.isnan(row["slope"])
    assert row["regime"] == "undetermined"


def test_slope_from_data_covers_the_truth():
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(80):
        parts = [selection(8e-4 * 2.0 ** (-0.3 * k), 10**9 * 2**k, noise=0.05, rng=rng) for k in range(6)]
        row = optimum_slope(tuned_rates(pd.concat(parts))).iloc[0]
        hits.append(row["low"] <= -0.3 <= row["high"])
    # at a true coverage of 90% fewer than 64 of 80 happen with probability 0.3%
    assert sum(hits) >= 64


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.2, 0.4, "increasing"),
        (-0.1, 0.1, "constant"),
        (-0.5, -0.01, "slowly decreasing"),
        (-0.9, -0.5, "quickly decreasing"),
        (-0.7, -0.2, "undetermined"),
        (np.nan, np.nan, "undetermined"),
    ],
)
def test_regimes(low, high, expected):
    assert regime(low, high) == expected


def test_other_metric_over_near_rates():
    frame = selection(4e-4, curvature=0.0)
    frame["value"] = frame["rate"].map(dict(zip(RATES, [3, 2.0, 2.0, 2.5, 3], strict=True)))
    target = frame.assign(value=frame["rate"] * 1e4)
    row = over_near_rates(frame, target).iloc[0]
    assert (row["rate"], row["value"], row["low"], row["high"], row["n_near"]) == (2e-4, 2, 2, 4, 2)
    assert row["n_missing"] == 0
    target.loc[(target["rate"] == 4e-4) & (target["seed"] == 0), "value"] = np.nan
    row = over_near_rates(frame, target).iloc[0]
    assert (row["high"], row["n_missing"]) == (2, 1)
