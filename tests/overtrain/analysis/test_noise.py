import numpy as np
import pytest

from overtrain.analysis.noise import noise_covariance, slope_variance, square_root


def test_equal_noise_is_the_error_term_of_anova():
    cells = np.random.default_rng(0).standard_normal((6, 4))
    covariance, freedom = noise_covariance(cells, paired=True, equal=True)
    left = cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean()
    assert freedom == 15
    np.testing.assert_allclose(covariance, np.eye(6) * (left**2).sum() / 15)


def test_slopes_count_twice_on_average():
    rng = np.random.default_rng(1)
    order = np.arange(6) - 2.5
    found = [
        slope_variance(np.outer(order, 2 * rng.standard_normal(8)) + rng.standard_normal((6, 8)), paired=True)
        for _ in range(300)
    ]
    # a variance with 7 degrees of freedom has a relative error of sqrt(2 / 7 / 300) = 3% over 300 draws
    noise = 1 / float(order @ order)
    assert np.mean(found) == pytest.approx(2 * (4 + noise) - noise, rel=0.12)


def test_noise_that_grows_is_seen_at_its_budget():
    rng = np.random.default_rng(2)
    spread = np.array([1, 1, 1, 1, 1, 10.0])[:, None]
    found = [np.diag(noise_covariance(spread * rng.standard_normal((6, 5)), paired=False)[0]) for _ in range(200)]
    # half of the budget's own variance and half of the pooled one, (5 + 100) / 6
    np.testing.assert_allclose(np.mean(found, axis=0)[[0, 5]], [0.5 + 105 / 12, 50 + 105 / 12], rtol=0.15)


def test_one_unit_has_no_noise():
    covariance, freedom = noise_covariance(np.ones((4, 1)), paired=True)
    assert freedom == 0
    assert not covariance.any()


def test_square_root():
    factor = np.random.default_rng(3).standard_normal((3, 5))
    root = square_root(factor.T @ factor)
    np.testing.assert_allclose(root.T @ root, factor.T @ factor, atol=1e-12)
