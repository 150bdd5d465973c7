"""Curves against hand-computed values, and verdicts on curves made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from overtrain.demo.curves import Curve, assemble, seed_variance
from overtrain.demo.plan import Cell
from overtrain.demo.results import Scores
from overtrain.demo.sentences import headline, sentence
from overtrain.demo.tables import curves_frame, results_frame
from overtrain.demo.turning import judge, pairwise_t

TOKENS = tuple(256_000 * 2**k for k in range(7))


def curve(means, *, seeds=4, spread=0.02, documents=100, kind="gaussian", quantity="loss", seed=0, noise=0.05):
    """A curve whose seeds and documents scatter around ``means``; each seed's mean offset over budgets is kept."""
    generator = np.random.default_rng(seed)
    means = np.asarray(means, float)
    by_seed = means[:, None] + spread * generator.standard_normal((len(means), seeds))
    residuals = noise * generator.standard_normal((len(means), documents))
    residuals -= residuals.mean(axis=1, keepdims=True)
    return Curve(kind, 0.1, quantity, TOKENS[: len(means)], by_seed, residuals)


def test_clear_u_turns_and_its_minimum_is_bracketed():
    verdict = judge(curve([4.8, 4.2, 3.7, 3.5, 3.7, 4.2, 4.8]))
    assert verdict.shape == "U"
    assert verdict.minimum == (TOKENS[2], TOKENS[4])
    text = sentence(verdict)
    assert "the curve turns" in text
    assert "alone" not in text
    assert "the minimum lies between 1M and 4M tokens" in text
    assert headline([verdict, judge(curve([4, 3], kind="finetune"))]) == (
        "In this one ladder, after noise, held-out loss turns at 1 of 1 strengths (gamma 0.1); "
        "after fine-tuning, no turn is established at any of 1 strengths up to 512k tokens."
    )


def test_monotone_fall_does_not_turn():
    verdict = judge(curve([4.8, 4.2, 3.8, 3.5, 3.3, 3.2, 3.1]))
    assert verdict.shape == "falling"
    assert verdict.minimum == (TOKENS[5], None)
    assert "no turn established up to 16M tokens" in sentence(verdict)
    assert "turns" not in sentence(verdict)


def test_rise_without_a_fall():
    verdict = judge(curve([3.0, 3.3, 3.6, 3.9, 4.2, 4.5, 4.8]))
    assert verdict.shape == "rising"
    assert verdict.minimum == (None, TOKENS[1])
    assert "rises from the first budget on" in sentence(verdict)


def test_rise_within_the_noise_is_not_a_turn():
    verdict = judge(curve([4.8, 4.2, 3.7, 3.500, 3.500, 3.501, 3.502], spread=0.05))
    assert verdict.shape == "falling"
    assert verdict.minimum[1] is None


def test_plateau_that_later_rises_is_a_turn_without_a_fall():
    verdict = judge(curve([3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 4.0]))
    assert verdict.shape == "turn"
    assert verdict.minimum[1] == TOKENS[6]
    assert verdict.last_alone
    assert "rests on the last checkpoint alone" in sentence(verdict)


@pytest.mark.parametrize("seeds", [1, 3, 4])
def test_flat_curves_rise_by_chance_in_one_of_twenty(seeds):
    studies, false = 200, 0
    for number in range(studies):
        flat = _flat(seeds, number)
        verdict = judge(flat, seed=number)
        false += verdict.rise > verdict.critical
    assert (
        0.005 <= false / studies <= 0.1
    )  # 5% of 200 studies, give or take 3.2 binomial deviations; the seeds are fixed


def _flat(seeds, number):
    """A flat curve whose budgets' means carry both the seeds' and the documents' scatter."""
    generator = np.random.default_rng([7, number])
    residuals = 0.3 * generator.standard_normal((5, 60)) + 0.3 * generator.standard_normal(60)
    errors = residuals.mean(axis=1, keepdims=True)
    spread = 0.05 if seeds > 1 else 0.0
    by_seed = 3.5 + errors + spread * generator.standard_normal((5, seeds))
    return Curve("gaussian", 0.1, "loss", TOKENS[:5], by_seed, residuals - errors)


def test_statistic_by_hand():
    by_seed = np.array([[1.0, 3.0], [4.0, 6.0], [10.0, 12.0]])  # seeds differ by 2 at every budget: nothing is left
    covariance = np.array([[0.5, 0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 1.0]])
    t = pairwise_t(by_seed, covariance)
    assert t[0, 1] == pytest.approx(3 / math.sqrt(0.5))
    assert t[0, 2] == pytest.approx(9 / math.sqrt(1.5))
    assert np.allclose(t, -t.T)

    shifted = np.array([[1.0, 3.0], [4.0, 8.0]])  # interaction -+0.5: variance 4 * 0.25 / 1 = 1
    assert seed_variance(shifted) == pytest.approx([1.0, 1.0])
    assert pairwise_t(shifted, np.zeros((2, 2)))[0, 1] == pytest.approx(4 / math.sqrt(2 * 1 / 2))


def test_budget_that_scatters_more_counts_with_its_own_variance():
    generator = np.random.default_rng(0)
    values = generator.standard_normal((6, 400)) * np.array([1, 1, 1, 1, 1, 5])[:, None]
    variance = seed_variance(values)
    assert variance[-1] == pytest.approx(25 * 5 / 6 + 5 / 36 * 6, rel=0.25)
    assert np.allclose(variance[:-1], 5, rtol=0.25)  # pooled: (5 + 25) / 6


def _scores(tokens, kind, strength, seed, nll, units=(10, 30)):
    cell = Cell(tokens, kind, strength, seed)
    return Scores(cell, {"nll_per_token": (1.0, 0.1)}, np.array(nll, float), np.array(units, float), ("a", "b"))


def test_curves_of_two_documents_by_hand():
    scores = [
        _scores(100, "base", 0.0, 0, (20, 60)),  # 2 nats per token
        _scores(200, "base", 0.0, 0, (10, 50)),  # 1.5
        *(_scores(100, "gaussian", 0.1, seed, (20, 60 + 40 * seed)) for seed in (0, 1)),  # 2 and 3
        *(_scores(200, "gaussian", 0.1, seed, (30, 90)) for seed in (0, 1)),  # 3 and 3
    ]
    base, loss, sensitivity, perplexity = assemble(scores)
    assert base.by_seed.tolist() == [[2.0], [1.5]]
    assert base.residuals.tolist() == [[0.0, 0.0], [-0.25, 0.25]]  # (10 - 15) / 20, (50 - 45) / 20
    assert np.diag(base.document_covariance) == pytest.approx([0, 0.0625])  # 0.125 / (2 * 1)
    assert loss.by_seed.tolist() == [[2.0, 3.0], [3.0, 3.0]]
    assert sensitivity.by_seed.tolist() == [[0.0, 1.0], [1.5, 1.5]]
    assert sensitivity.residuals[0] == pytest.approx([-0.25, 0.25])  # seed 1: (20 - 30) / 20, (100 - 90) / 20, halved
    assert perplexity.by_seed[1] == pytest.approx(math.e**3 - math.e**1.5)
    assert perplexity.residuals[1] == pytest.approx([0.25 * math.e**1.5, -0.25 * math.e**1.5])
    # Seeds (2, 3) and (3, 3): own variances 0.5 and 0, mean 0.25; documents add residual^2 summed over 2 * 1.
    assert loss.stderr == pytest.approx([math.sqrt(0.25 + 0.0625), math.sqrt(0.125)])


def test_tables_are_tidy():
    scores = [
        _scores(100, "base", 0.0, 0, (20, 60)),
        _scores(200, "base", 0.0, 0, (10, 50)),
        *(_scores(tokens, "finetune", 1e-3, seed, (20, 70 - seed)) for tokens in (100, 200) for seed in (0, 1)),
    ]
    results = results_frame(scores)
    assert list(results.columns) == [
        "tokens",
        "modification",
        "gamma",
        "learning_rate",
        "seed",
        "metric",
        "value",
        "stderr",
    ]
    assert len(results) == 6
    assert results["gamma"].isna().all()
    assert results["learning_rate"].count() == 4
    frame = curves_frame([judge(made) for made in assemble(scores)])
    assert set(frame["quantity"]) == {"loss", "sensitivity", "sensitivity_perplexity"}
    assert len(frame) == 8
    base = frame[(frame["modification"] == "base") & (frame["tokens"] == 200)].iloc[0]
    assert base["perplexity"] == pytest.approx(math.exp(1.5))
    assert base["seeds"] == 1
