import numpy as np
import pytest

from overtrain.analysis.jitter import jitter
from overtrain.analysis.simulate import simulate_study


def with_neighbours(shift, **design):
    """Budgets 1, 2, 4, 8 where the second has two neighbours 1% apart."""
    frame = simulate_study([0, 1, 1 + shift, 1 - shift, 2, 3], np.random.default_rng(0), **design)
    order = {10**9 * 2**k: b for k, b in enumerate([1000, 2000, 2020, 2040, 4000, 8000])}
    return frame.assign(budget=frame["budget"].map(order))


def test_spread_beyond_seeds_is_jitter():
    table = jitter(with_neighbours(3.0, seed_sd=0.1, documents=1))
    assert table[["first", "last", "n_budgets"]].to_numpy().tolist() == [[2000, 2040, 3]]
    row = table.iloc[0]
    assert row["sd"] == pytest.approx(3.0, abs=0.3)
    assert row["sd_jitter"] == pytest.approx(np.sqrt(row["sd"] ** 2 - row["sd_expected"] ** 2))
    assert row["sd_expected"] < 0.2


def test_expected_spread_is_that_of_seed_means():
    # pooled over 6 budgets: v / 3 seeds; 10 degrees of freedom
    row = jitter(with_neighbours(0.0, seed_sd=1.0, documents=1)).iloc[0]
    assert row["sd_expected"] == pytest.approx(np.sqrt(1 / 3), rel=0.5)


def test_without_neighbours_there_are_no_rows():
    assert jitter(simulate_study([0, 1, 2], np.random.default_rng(1))).empty
