import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from overtrain.analysis.unimodal import valley


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
