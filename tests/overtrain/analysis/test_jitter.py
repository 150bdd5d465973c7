import numpy as np
import pytest

from overtrain.analysis.contrasts import Contrasts
from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.jitter import jitter, merge_neighbours
from overtrain.analysis.layout import assemble, from_cells
from overtrain.analysis.simulate import simulate_cells, simulate_study
from overtrain.analysis.verdict import verdict


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


def test_neighbours_become_one_budget_with_their_jitter():
    frame = with_neighbours(3.0, seed_sd=0.1, documents=20)
    layout = assemble(frame)
    merged = merge_neighbours(layout)
    assert merged.budgets == (1000, 2020, 4000, 8000)
    np.testing.assert_allclose(merged.means, [layout.means[0], layout.means[1:4].mean(), *layout.means[4:]])
    found = jitter(frame).iloc[0]
    assert merged.jitter.variance**0.5 == pytest.approx(found["sd_jitter"])
    assert merged.jitter.freedom == 2
    # by hand: seeds and documents of the merged curve, and jitter of one checkpoint against the mean of three
    plain = Contrasts(merged.__class__(**{**vars(merged), "jitter": None}), np.array([[-1.0, 1.0, 0, 0]]))
    error = Contrasts(merged, np.array([[-1.0, 1.0, 0, 0]])).errors[0]
    assert error**2 == pytest.approx(plain.errors[0] ** 2 + found["sd_jitter"] ** 2 * (1 + 1 / 3))


def test_a_curve_without_neighbours_stays_as_it_is():
    layout = from_cells(np.random.default_rng(0).standard_normal((4, 3)), budgets=[1000, 2000, 4000, 8000])
    assert merge_neighbours(layout) is layout


def test_measured_jitter_raises_the_critical_value_and_is_said():
    rng = np.random.default_rng(1)
    cells = simulate_cells((0.0,) * 8, rng, jitter_sd=5.0)
    budgets = [1000, 1010, 2000, 2010, 4000, 4010, 8000, 8010]
    merged = merge_neighbours(from_cells(cells, budgets=budgets))
    alone = from_cells(merged.cells, budgets=merged.budgets)
    assert CurveTests(merged).largest_rise[0] < CurveTests(alone).largest_rise[0]
    frame = simulate_study([20, 20, 10, 10, 5, 5, 0, 0], rng, documents=1)
    order = {10**9 * 2**k: b for k, b in enumerate(budgets)}
    row = verdict(frame.assign(budget=frame["budget"].map(order))).iloc[0]
    assert np.isfinite(row["jitter_measured"])
    assert np.isnan(row["jitter_tolerated"])
    assert "jitter of neighbouring checkpoints is counted" in row["sentence"] or row["verdict"] == "inconclusive"
