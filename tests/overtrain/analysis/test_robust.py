import numpy as np
import pytest
from scipy import stats

from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.layout import from_cells
from overtrain.analysis.robust import companion, leave_one_out, outlier, without_outlier
from overtrain.analysis.shape import classify
from overtrain.analysis.simulate import simulate_cells
from overtrain.analysis.verdict import verdict_of

LATE = (0.0, 0.0, 0.0, 0.0, 0.0, 3.5)


def with_outlier(seed=0):
    cells = simulate_cells(LATE, np.random.default_rng(seed))
    cells[1, 2] += 8
    return cells


def test_the_outlier_is_named_and_its_distance_is_the_regressions():
    cells = with_outlier()
    found = outlier(from_cells(cells))
    assert (found.budget, found.unit) == (2, 2)
    # the externally studentised residual is the t statistic of a dummy for this cell
    budgets, units = np.indices(cells.shape).reshape(2, -1)
    dummy = (budgets == 1) & (units == 2)
    design = np.column_stack([np.equal.outer(budgets, range(6)), np.equal.outer(units, [1, 2]), dummy]).astype(float)
    fit = np.linalg.lstsq(design, cells.ravel(), rcond=None)[0]
    left = cells.ravel() - design @ fit
    error = np.sqrt(left @ left / 9 * np.linalg.inv(design.T @ design)[-1, -1])
    assert found.distance == pytest.approx(abs(fit[-1]) / error)


def test_the_value_that_replaces_it_leaves_no_residual():
    cells = without_outlier(with_outlier())
    expected = cells.mean(axis=1, keepdims=True) + cells.mean(axis=0) - cells.mean()
    assert cells[1, 2] == pytest.approx(expected[1, 2])
    same = np.ones(cells.shape, bool)
    same[1, 2] = False
    np.testing.assert_array_equal(cells[same], with_outlier()[same])


def test_normal_noise_seldom_has_an_outlier():
    rng = np.random.default_rng(1)
    found = sum(outlier(from_cells(rng.standard_normal((6, 3)))) is not None for _ in range(400))
    # at 1% more than 11 of 400 happen with probability 0.1%
    assert found <= 11


def test_a_muted_rise_is_found_without_the_outlier_and_said():
    tests = CurveTests(from_cells(with_outlier()))
    assert classify(tests) == "inconclusive"
    assert classify(companion(tests)) == "turn"
    row = verdict_of(tests).iloc[0]
    assert row["verdict"] == "inconclusive"
    assert row["verdict_without_outlier"] == "turn"
    assert "one cell at 2 lies" in row["sentence"]
    assert "without it the verdict would be: turn" in row["sentence"]


def test_of_two_seeds_neither_is_the_outlier():
    cells = with_outlier()[:, 1:]
    assert outlier(from_cells(cells)) is None
    assert companion(CurveTests(from_cells(cells))) is None


def test_every_seed_is_left_out_once():
    cells = simulate_cells(LATE, np.random.default_rng(2), seeds=4)
    tests = CurveTests(from_cells(cells))
    others = leave_one_out(tests)
    for unit, other in enumerate(others):
        np.testing.assert_array_equal(other.layout.cells, np.delete(cells, unit, axis=1))
    row = verdict_of(tests).iloc[0]
    assert len(row["verdicts_without_one_seed"].split(", ")) == 4
    _, i, j = tests.largest_rise
    change = cells[j] - cells[i]
    each = [np.delete(change, unit).mean() for unit in range(4)]
    assert (row["increase_low"], row["increase_high"]) == (pytest.approx(min(each)), pytest.approx(max(each)))


def test_a_jitter_that_is_tolerated_is_tolerated():
    """At the tolerated jitter, added to the error by hand, the rise is exactly critical."""
    tests = CurveTests(from_cells(simulate_cells((0, 0, 0, 0, 0, 9), np.random.default_rng(3))))
    found = tests.jitter_of_rise
    errors = np.sqrt(tests.contrasts.errors**2 + 2 * found**2)
    last = slice(None)
    margin = (tests.contrasts.estimates / errors)[last].max() - tests.critical[0]
    assert margin == pytest.approx(0, abs=1e-9)
    row = verdict_of(tests).iloc[0]
    assert row["jitter_tolerated"] == found
    left = tests.layout.cells - tests.layout.cells.mean(axis=0) - tests.layout.cells.mean(axis=1, keepdims=True)
    between = np.sqrt(((left + tests.layout.cells.mean()) ** 2).sum() / 10)
    assert row["jitter_tolerated_in_seed_sd"] == pytest.approx(found / between)
    assert "this stands while the jitter of checkpoints, not measured, is below" in row["sentence"]


def test_the_rise_that_is_not_excluded():
    cells = simulate_cells((6, 3, 1, 0, 0, 0), np.random.default_rng(4))
    tests = CurveTests(from_cells(cells))
    row = verdict_of(tests).iloc[0]
    assert row["verdict"] == "monotone"
    change = cells[5] - cells[2]
    alone = change.mean() + stats.t.ppf(0.95, 2) * change.std(ddof=1) / np.sqrt(3)
    assert row["rise_not_excluded"] >= alone - 3
    assert row["rise_not_excluded"] == pytest.approx(
        (tests.contrasts.estimates + tests.critical[0] * tests.contrasts.errors).max()
    )
    assert f"a rise of up to {row['rise_not_excluded']:.3g} is not excluded" in row["sentence"]


def test_two_seeds_are_exploratory():
    row = verdict_of(CurveTests(from_cells(simulate_cells(LATE, np.random.default_rng(5), seeds=2)))).iloc[0]
    assert row["exploratory"]
    assert "2 seeds, so exploratory" in row["sentence"]
    assert not verdict_of(CurveTests(from_cells(simulate_cells(LATE, np.random.default_rng(5))))).iloc[0]["exploratory"]
