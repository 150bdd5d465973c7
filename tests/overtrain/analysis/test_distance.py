import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.distance import distance_law, distance_points


def cells(rate_power, tokens_power, noise=0.02):
    rng = np.random.default_rng(0)
    rows = [
        (tokens, rate, 3 * rate**rate_power * tokens**tokens_power * np.exp(noise * rng.standard_normal()))
        for tokens in (1e6, 2e6, 4e6, 8e6)
        for rate in (1e-4, 3e-4, 1e-3)
        for _ in range(3)
    ]
    return pd.DataFrame(rows, columns=["budget", "rate", "distance"])


def test_a_proportional_law_is_recovered():
    row = distance_law(cells(1.0, 0.0)).iloc[0]
    assert row["proportional"]
    assert row["independent"]
    assert row["rate_slope"] == pytest.approx(1, abs=0.02)
    assert row["tokens_slope"] == pytest.approx(0, abs=0.02)
    assert row["r_squared"] > 0.99


def test_another_law_is_told_apart():
    row = distance_law(cells(0.8, 0.1)).iloc[0]
    assert not row["proportional"]
    assert not row["independent"]
    assert row["rate_low"] < 0.8 < row["rate_high"]
    # a power of 0.1 of tokens is 0.1 ln 2 per doubling on the natural log scale
    assert row["tokens_low"] < 0.1 * np.log(2) < row["tokens_high"]


def test_one_budget_has_no_slope_in_tokens():
    row = distance_law(cells(1.0, 0.0).query("budget == 1e6")).iloc[0]
    assert np.isnan(row["tokens_slope"])
    assert not row["independent"]
    assert row["rate_slope"] == pytest.approx(1, abs=0.05)


def test_zero_rates_and_missing_distances_are_counted():
    frame = pd.concat([cells(1.0, 0.0), pd.DataFrame({"budget": 1e6, "rate": [0.0, 1e-3], "distance": [0.0, np.nan]})])
    row = distance_law(frame).iloc[0]
    assert (row["n_cells"], row["n_left_out"]) == (36, 2)
    with pytest.raises(DataError, match="the fit needs three"):
        distance_law(frame.head(2))


def test_points_are_geometric_means():
    frame = pd.DataFrame({"budget": 10, "rate": 1e-3, "distance": [1.0, 4.0, np.nan]})
    row = distance_points(frame).iloc[0]
    assert row["distance"] == pytest.approx(2.0)
    assert (row["n_cells"], row["n_missing"]) == (2, 1)
