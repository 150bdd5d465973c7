import numpy as np
import pytest
from scipy import stats

from overtrain.analysis.contrasts import Contrasts, maxima, pairs, unit_variance
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import simulate_study

DIFFERENCE = np.array([[-1.0, 1.0]])


def unpaired(frame):
    return frame.assign(seed=frame["seed"] + 10 * (frame["budget"] // 10**9))


def test_two_unpaired_budgets_are_the_two_sample_t_test():
    frame = unpaired(simulate_study([0, 1], np.random.default_rng(0), seeds=7, documents=1))
    layout = assemble(frame)
    contrasts = Contrasts(layout, DIFFERENCE, pooled=True)
    expected = stats.ttest_ind(layout.cells[1], layout.cells[0], nan_policy="omit")
    assert contrasts.statistics[0] == pytest.approx(expected.statistic)
    assert contrasts.freedom[0] == pytest.approx(expected.df)


@pytest.mark.parametrize("pooled", [True, False])
def test_two_paired_budgets_are_the_paired_t_test(pooled):
    layout = assemble(simulate_study([0, 1], np.random.default_rng(1), seeds=7, documents=1, shared_seed_sd=5))
    contrasts = Contrasts(layout, DIFFERENCE, pooled=pooled)
    expected = stats.ttest_rel(layout.cells[1], layout.cells[0])
    assert contrasts.statistics[0] == pytest.approx(expected.statistic)
    assert contrasts.freedom[0] == pytest.approx(expected.df)


def test_one_seed_is_the_paired_t_test_over_documents():
    frame = simulate_study([0, 1], np.random.default_rng(2), seeds=1, documents=50)
    before, after = (frame.loc[frame["budget"] == b, "y"].to_numpy() for b in (10**9, 2 * 10**9))
    contrasts = Contrasts(assemble(frame), DIFFERENCE)
    expected = stats.ttest_rel(after, before)
    assert contrasts.statistics[0] == pytest.approx(expected.statistic)
    assert contrasts.freedom[0] == pytest.approx(expected.df)


def test_pooled_variance_is_the_error_term_of_anova():
    cells = np.random.default_rng(3).standard_normal((5, 4))
    variance, freedom = unit_variance(cells, paired=False, pooled=True)
    assert freedom == 15
    assert variance[0] == pytest.approx(cells.var(axis=1, ddof=1).mean())
    left = cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean()
    variance, freedom = unit_variance(cells, paired=True, pooled=True)
    assert freedom == 12
    assert variance[0] == pytest.approx((left**2).sum() / 12)


def test_guarded_variance_is_a_budgets_own_where_that_is_larger():
    cells = np.array([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    variance, _ = unit_variance(cells, paired=False, pooled=False)
    np.testing.assert_allclose(variance, [2.0, 2 / 3, 2 / 3])


def test_budgets_may_have_different_numbers_of_unpaired_units():
    cells = np.array([[0.0, 2.0, 4.0], [1.0, 2.0, np.nan]])
    variance, freedom = unit_variance(cells, paired=False, pooled=True)
    assert freedom == 3
    np.testing.assert_allclose(variance, (8 + 0.5) / 3)


def test_the_variance_of_a_difference_is_right_on_average():
    # 2 seed^2 / S + (2 document^2 + 2 interaction^2 / S) / D, and the interaction only once
    truth = 2 * 1 / 3 + (2 * 9 + 2 * 4 / 3) / 40
    rng = np.random.default_rng(4)
    estimates, variances = [], []
    for _ in range(600):
        layout = assemble(simulate_study([0.0] * 3, rng, documents=40))
        contrasts = Contrasts(layout, np.array([[-1.0, 0.0, 1.0]]), pooled=True)
        estimates.append(contrasts.estimates[0])
        variances.append(contrasts.errors[0] ** 2)
    # a variance over n draws has a relative error of sqrt(2 / n) = 6%; four of them
    assert np.var(estimates) == pytest.approx(truth, rel=0.24)
    # df 4: relative error of the mean sqrt(2 / 4 / 600) = 3%
    assert np.mean(variances) == pytest.approx(truth, rel=0.12)


def test_without_seed_effects_the_interaction_is_not_counted_twice():
    rng = np.random.default_rng(5)
    truth = 2 * 4 / 3 / 40
    variances = []
    for _ in range(300):
        frame = simulate_study([0.0] * 6, rng, documents=40, seed_sd=0, shared_seed_sd=0, document_sd=0)
        variances.append(Contrasts(assemble(frame), pairs(6)[0], pooled=True).errors[0] ** 2)
    # the larger of two estimates of one variance is biased upwards, far less than twice
    assert truth * 0.95 < np.mean(variances) < truth * 1.5


def test_nothing_repeated_gives_no_error():
    frame = simulate_study([0, 1], np.random.default_rng(6), seeds=1, documents=1)
    assert np.isnan(Contrasts(assemble(frame), DIFFERENCE).errors).all()


@pytest.mark.parametrize(("documents", "seeds"), [(1, 3), (12, 1)])
def test_simulated_statistics_follow_students_t(documents, seeds):
    frame = simulate_study([0, 1, 2], np.random.default_rng(7), seeds=seeds, documents=documents)
    contrasts = Contrasts(assemble(frame), np.array([[-1.0, 0.0, 1.0]]), pooled=True)
    drawn = maxima(contrasts, [(np.array([0]), np.ones(1))])[:, 0]
    freedom = (3 - 1) * (3 - 1) if documents == 1 else 11
    assert contrasts.freedom[0] == pytest.approx(freedom)
    # 20,000 draws: the Kolmogorov-Smirnov distance of the right distribution exceeds 0.0138 with probability 0.1%
    assert stats.kstest(drawn, stats.t(freedom).cdf).statistic < 0.0138


def test_simulation_is_deterministic():
    contrasts = Contrasts(assemble(simulate_study([0, 1], np.random.default_rng(8))), DIFFERENCE)
    group = [(np.array([0]), np.ones(1))]
    assert (maxima(contrasts, group, seed=3) == maxima(contrasts, group, seed=3)).all()
    assert (maxima(contrasts, group, seed=3) != maxima(contrasts, group, seed=4)).any()
