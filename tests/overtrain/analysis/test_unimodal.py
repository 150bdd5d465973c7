import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from model_wrappers.errors import DataError
from overtrain.analysis.simulate import TRUTHS, simulate_study
from overtrain.analysis.unimodal import likelihood_ratio, two_lines, valley


def quadratic_program(means, weights, k):
    """Least squares subject to falling up to k and rising from k on, by a general solver."""
    budgets = len(means)
    rows = np.zeros((budgets - 1, budgets))
    for i in range(budgets - 1):
        sign = -1 if i < k else 1
        rows[i, i], rows[i, i + 1] = -sign, sign
    found = minimize(
        lambda f: (weights * (means - f) ** 2).sum(),
        np.full(budgets, means.mean()),
        jac=lambda f: -2 * weights * (means - f),
        constraints=LinearConstraint(rows, 0, np.inf),
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    return found.fun


@pytest.mark.parametrize("seed", range(4))
def test_valley_is_the_best_constrained_fit(seed):
    rng = np.random.default_rng(seed)
    means, weights = rng.standard_normal(6), rng.uniform(0.5, 2, 6)
    fit = valley(means, weights)
    best = min(quadratic_program(means, weights, k) for k in range(6))
    assert fit.squares == pytest.approx(best, abs=1e-6)
    assert fit.squares == pytest.approx((weights * (means - fit.fitted) ** 2).sum())
    steps = np.sign(np.diff(fit.fitted).round(12))
    assert (np.diff(steps[steps != 0]) >= 0).all()
    assert fit.fitted[fit.minimum] == pytest.approx(fit.fitted.min())


@pytest.mark.parametrize(("means", "minimum"), [([3, 2, 1], 2), ([1, 2, 3], 0), ([4, 1, 5, 6], 1), ([2, 2, 2], 0)])
def test_minimum_of_exact_shapes(means, minimum):
    fit = valley(np.array(means, float), np.ones(len(means)))
    assert fit.minimum == minimum
    assert fit.squares == 0


def test_weights_decide_between_two_dips():
    means = np.array([5.0, 1.0, 4.0, 0.9, 5.0])
    assert valley(means, np.array([1, 100.0, 100, 1, 1])).minimum == 1
    assert valley(means, np.array([1, 1.0, 100, 100, 1])).minimum == 3


def test_likelihood_ratio_sees_a_u_and_not_a_fall():
    rng = np.random.default_rng(0)
    assert likelihood_ratio(simulate_study(TRUTHS["U"], rng)).iloc[0]["p_value"] < 0.01
    assert likelihood_ratio(simulate_study(TRUTHS["falling"], rng)).iloc[0]["p_value"] > 0.2


def test_likelihood_ratio_keeps_its_level():
    rng = np.random.default_rng(1)
    hits = [
        likelihood_ratio(simulate_study(TRUTHS["flat"], rng, documents=1), simulations=200).iloc[0]["p_value"] <= 0.05
        for _ in range(60)
    ]
    # at a true level of 5% more than 8 of 60 happen with probability 0.2%
    assert sum(hits) <= 8


def test_two_lines_need_ten_budgets():
    rng = np.random.default_rng(2)
    with pytest.raises(DataError, match="two lines need 10 budgets, the curve has 6"):
        two_lines(simulate_study(TRUTHS["U"], rng))


def test_two_lines_on_a_u_and_on_a_fall():
    rng = np.random.default_rng(3)
    means = [2.0 * abs(k - 5) for k in range(11)]
    frame = simulate_study(means, rng, seed_sd=0.1, documents=1)
    row = two_lines(frame).iloc[0]
    assert row["u_shaped"]
    k = int(np.log2(row["break_budget"] / 10**9))
    assert k in {4, 5, 6}
    y = frame.groupby("budget")["y"].mean().to_numpy()
    x = np.arange(11)
    assert row["slope_before"] == pytest.approx(np.polyfit(x[: k + 1], y[: k + 1], 1)[0])
    assert row["slope_after"] == pytest.approx(np.polyfit(x[k:], y[k:], 1)[0])
    falling = two_lines(simulate_study([20 - 2 * k for k in range(11)], rng, seed_sd=0.1, documents=1)).iloc[0]
    assert not falling["u_shaped"]


def test_two_lines_keep_their_level():
    rng = np.random.default_rng(4)
    hits = [two_lines(simulate_study([0.0] * 10, rng, documents=1)).iloc[0]["u_shaped"] for _ in range(60)]
    # at a true level of 5% more than 8 of 60 happen with probability 0.2%
    assert sum(hits) <= 8
