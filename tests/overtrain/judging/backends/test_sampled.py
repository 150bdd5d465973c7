"""The sampled backend: what is sent, how samples are read, and what they do to the standard error."""

from __future__ import annotations

import numpy as np
import pytest
from fake_judge import TEMPLATE, FakeJudge, texts

from model_wrappers.serving.client import Endpoint, run_anywhere
from overtrain.judging.backends.base import Question, reach
from overtrain.judging.backends.sampled import prepare
from overtrain.judging.preferences import Preference
from overtrain.judging.prompt import load_template
from overtrain.judging.win_rates import win_rates


def replies(fake, tmp_path, samples, number=1):
    (tmp_path / "t.txt").write_text(TEMPLATE)
    template = load_template(tmp_path / "t.txt")

    async def ask():
        server = await reach(Endpoint(url=fake.url, model="judge", concurrency=2, timeout=5, backoff=0.01), template)
        backend = await prepare(server, samples)
        made = [template.fill(f"q{n}", "a", "b") for n in range(number)]
        await backend.ask([Question(backend.key(m), m) for m in made], lambda _, reply, __: found.append(reply))

    found = []
    run_anywhere(ask())
    return found


def asked_for(fake):
    """Return the number of samples that each request about a pair asked for."""
    return [body.get("n", 1) for body in fake.bodies if "FIRST: " in body["messages"][-1]["content"]]


def test_one_request_brings_all_samples_where_the_server_can(tmp_path):
    with FakeJudge(lambda _: 0.75) as fake:
        assert replies(fake, tmp_path, 8, number=3) == [Preference(0.75, samples=8)] * 3
    assert asked_for(fake) == [8] * 3
    body = fake.bodies[-1]
    assert "logprobs" not in body
    assert (body["temperature"], body["top_p"]) == (1, 1.0)  # the judge's own distribution


def test_a_server_that_returns_one_sample_at_a_time_is_asked_often(tmp_path):
    with FakeJudge(lambda _: 0.75, choices=1) as fake:
        assert replies(fake, tmp_path, 4, number=3) == [Preference(0.75, samples=4)] * 3
    assert asked_for(fake) == [1] * 12


def test_what_the_server_leaves_out_is_asked_for_again(tmp_path):
    with FakeJudge(lambda _: 0.5, choices=3) as fake:
        assert replies(fake, tmp_path, 8) == [Preference(0.5, samples=8)]
    assert asked_for(fake) == [8, 5, 2]


def test_samples_that_name_no_answer_are_left_out_of_the_share_and_not_counted(tmp_path):
    said = ["m", " M\n", "**m**", '"m".', "Both", None, "mM", "model m"]

    def fault(_, body):
        return texts(said) if "FIRST: " in body["messages"][-1]["content"] else None

    with FakeJudge(fault=fault) as fake:
        assert replies(fake, tmp_path, 8) == [Preference(0.75, samples=4)]


@pytest.mark.parametrize("samples", [1, 8])
def test_the_standard_error_contains_the_noise_of_samples(samples):
    """Over 1,500 simulated studies, the mean squared standard error is the variance of the win rate."""
    rng = np.random.default_rng(0)
    number, studies = 60, 1_500
    rates, errors = [], []
    for _ in range(studies):
        truth = rng.beta(2, 2, size=(number, 1))
        share = rng.binomial(samples, truth, size=(number, 2)) / samples
        found = win_rates(range(number), range(number), [tuple(s) for s in share], [(1, 1)] * number)
        rates.append(found.rows[0]["value"])
        errors.append(found.rows[0]["stderr"])
    assert np.mean(np.square(errors)) == pytest.approx(np.var(rates), rel=4 * np.sqrt(2 / studies))
    assert np.mean(rates) == pytest.approx(
        50, abs=4 * np.std(rates) / np.sqrt(studies)
    )  # smoothing would not show here


def test_the_share_is_not_pulled_towards_a_half():
    """With few samples, a smoothed share would put a true 90% at 80% (8 samples: (0.9 * 8 + 1) / 10 = 82%)."""
    rng = np.random.default_rng(1)
    share = rng.binomial(8, 0.9, size=(4_000, 2)) / 8
    found = win_rates(range(4_000), range(4_000), [tuple(s) for s in share], [(1, 1)] * 4_000).rows[0]
    assert found["value"] == pytest.approx(90, abs=4 * found["stderr"])
    assert found["stderr"] < 0.2
