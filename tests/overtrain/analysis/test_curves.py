import numpy as np
import pandas as pd
import pytest
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.curves import perplexity, sensitivity, summarise, trend
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import simulate_study
from overtrain.analysis.trend import williams


def study(means, seed=0, **design):
    return simulate_study(means, np.random.default_rng(seed), **design)


def as_base(frame):
    return frame.assign(seed=pd.array([pd.NA] * len(frame), dtype="Int64"))


def test_summary_of_one_budget_is_the_t_interval():
    frame = study([1.0], seeds=8, documents=1)
    row = summarise(frame).iloc[0]
    values = frame["y"].to_numpy()
    low, high = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert (row["mean"], row["se"]) == (pytest.approx(values.mean()), pytest.approx(stats.sem(values)))
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))


def test_steps_are_paired():
    frame = study([1.0, 2.0], seeds=8, documents=1, shared_seed_sd=10)
    table = summarise(frame)
    before, after = (frame.loc[frame["budget"] == b, "y"].to_numpy() for b in (10**9, 2 * 10**9))
    assert table["step"][1] == pytest.approx(after.mean() - before.mean())
    assert table["se_step"][1] == pytest.approx(stats.sem(after - before))
    assert table["se"][1] > 3 * table["se_step"][1]
    assert np.isnan(table["step"][0])


def test_a_summary_without_repeats_has_no_error():
    assert summarise(study([1.0, 2.0], seeds=1, documents=1))["se"].isna().all()


def test_coverage_of_the_bars():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(100):
        table = summarise(simulate_study([0.0] * 4, rng, documents=30, shared_seed_sd=0))
        # every study draws its documents, which all budgets share: compare with 0 at one budget
        hits.append(table["low"][1] <= 0 <= table["high"][1])
    # at a true coverage of 90% fewer than 81 of 100 happen with probability 0.2%
    assert sum(hits) >= 81


def test_perplexity_is_the_exponential_of_the_mean():
    table = perplexity(summarise(study([2.0, 3.0], seed_sd=0.01, documents=1, shared_seed_sd=0)))
    np.testing.assert_allclose(table["perplexity"], np.exp(table["mean"]))
    assert (table["perplexity_low"] < table["perplexity"]).all()


def test_sensitivity_is_paired_by_document():
    base = study([5.0, 4.0, 3.0], 1, seeds=1, documents=20)
    modified = pd.concat([base.assign(seed=s, y=base["y"] + 1.0 + s) for s in (0, 1, 2)])
    modified["seed"] = modified["seed"].astype("Int64")
    difference = sensitivity(modified, as_base(base))
    assert len(difference) == len(modified)
    np.testing.assert_allclose(difference["y"], 1.0 + difference["seed"].astype(float))
    # the documents' difficulty cancels, so no variance over documents is left
    np.testing.assert_allclose(assemble(difference).covariance, 0, atol=1e-20)


def test_sensitivity_in_perplexity_is_the_difference_of_perplexities():
    rng = np.random.default_rng(2)
    base = as_base(study([1.0, 0.5], 2, seeds=1, documents=15, shared_seed_sd=0, document_sd=0.1))
    base["weight"] = np.tile(rng.integers(1, 9, 15), 2).astype(float)
    base["y"] = base["y"] / 20
    modified = base.assign(seed=0, y=base["y"] + rng.uniform(0.1, 0.4, len(base)))

    def perplexities(frame):
        parts = frame.groupby("budget")
        return np.exp(parts.apply(lambda p: (p["y"] * p["weight"]).sum() / p["weight"].sum()).to_numpy())

    layout = assemble(sensitivity(modified, base, "perplexity"))
    np.testing.assert_allclose(layout.means, perplexities(modified) - perplexities(base))


def test_error_in_perplexity_is_the_delta_method():
    rng = np.random.default_rng(3)
    base = study([1.0], 3, seeds=1, documents=400, shared_seed_sd=0, seed_sd=0).assign(y=lambda f: f["y"] / 40)
    modified = base.assign(y=base["y"] + rng.normal(0.3, 0.1, 400))
    frame = sensitivity(modified, as_base(base), "perplexity")
    deviation = float(np.sqrt(assemble(frame).covariance[0, 0]))
    drawn = []
    for _ in range(800):
        rows = rng.integers(0, 400, 400)
        drawn.append(np.exp(modified["y"].to_numpy()[rows].mean()) - np.exp(base["y"].to_numpy()[rows].mean()))
    # a standard deviation over 800 draws has a relative error of 2.5%
    assert deviation == pytest.approx(np.std(drawn), rel=0.1)


def test_loss_and_perplexity_can_disagree():
    """Base perplexities fall tenfold; the loss increase grows, the perplexity increase shrinks."""
    rng = np.random.default_rng(4)
    base = study([4.0, 3.0, 2.0], 4, seeds=1, documents=1, seed_sd=0.0, shared_seed_sd=0.0)
    parts = [
        base.assign(seed=seed, y=base["y"] + np.array([0.1, 0.15, 0.2]) + rng.normal(0, 0.002, 3)) for seed in range(4)
    ]
    modified = pd.concat(parts).assign(seed=lambda f: f["seed"].astype("Int64"))
    in_loss = trend(sensitivity(modified, as_base(base))).iloc[0]
    in_perplexity = trend(sensitivity(modified, as_base(base), "perplexity")).iloc[0]
    assert in_loss["grows"]
    assert not in_loss["shrinks"]
    assert in_perplexity["shrinks"]
    assert not in_perplexity["grows"]


def test_missing_cells_stay_missing():
    base = as_base(study([1.0, 2.0, 3.0], 5, seeds=1, documents=4))
    modified = study([2.0, 3.0, 4.0], 5, documents=4)
    hole = pd.DataFrame(
        {"budget": [2 * 10**9], "run": "run0", "seed": pd.NA, "document": None, "y": np.nan, "weight": np.nan}
    )
    cut = pd.concat([base[base["budget"] != 2 * 10**9], hole.astype({"seed": "Int64"})], ignore_index=True)
    for scale in ("loss", "perplexity"):
        layout = assemble(sensitivity(modified, cut, scale))
        assert layout.budgets == (10**9, 4 * 10**9)
        assert "budget 2000000000 has no result" in layout.missing


def test_a_base_with_several_cells_is_refused():
    frame = study([1.0, 2.0], 6)
    with pytest.raises(DataError, match="several cells for one budget"):
        sensitivity(frame, frame)


def test_williams_contrasts_sum_to_zero_and_are_what_they_say():
    rows = williams(5)
    np.testing.assert_allclose(rows.sum(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(rows[1], [-1, 0, 0, 0.5, 0.5])


def test_critical_value_of_the_trend_is_the_multivariate_t():
    row = trend(study([0.0] * 4, 7, documents=1), pooled=True).iloc[0]
    rows = williams(4)
    covariance = rows @ rows.T
    scale = np.sqrt(np.diag(covariance))
    exact = stats.multivariate_t(shape=covariance / np.outer(scale, scale), df=(4 - 1) * (3 - 1), seed=0)
    assert exact.cdf(np.full(3, row["critical"])) == pytest.approx(0.95, abs=0.005)


def test_trend_sees_growth():
    grows = trend(study([0, 1, 2, 3, 4, 5], 8)).iloc[0]
    assert grows["grows"]
    assert not grows["shrinks"]
    assert grows["increase"] == pytest.approx(5, abs=3 * grows["se"])
    falls = trend(study([5, 4, 3, 2, 1, 0], 8)).iloc[0]
    assert falls["shrinks"]
    assert not falls["grows"]


def test_trend_without_repeats_is_missing():
    row = trend(study([0, 1, 2], 9, seeds=1, documents=1)).iloc[0]
    assert np.isnan(row["statistic"])
    assert not row["grows"]


def test_a_curve_cannot_both_grow_and_shrink():
    row = trend(simulate_study((0, 40, 0, 0, 0, -8), np.random.default_rng(0), documents=1, seed_sd=0.1)).iloc[0]
    assert row["direction"] == "both ways"
    assert not row["grows"]
    assert not row["shrinks"]
    assert max(row["p_value"], row["p_value_down"]) < 0.05


def test_diverged_cells_are_counted_at_their_budget():
    frame = simulate_study([0.0, 1.0], np.random.default_rng(0), documents=1)
    last = (frame["budget"] == 2 * 10**9) & (frame["seed"] == 1)
    assert summarise(frame.assign(y=frame["y"].where(~last, np.inf)))["n_diverged"].tolist() == [0, 1]
