"""The backend with log-probabilities: what is sent, what is read, what the key covers."""

from __future__ import annotations

import math

import pytest
from fake_judge import TEMPLATE, FakeJudge, top_logprobs
from scipy.special import logsumexp

from model_wrappers.serving.client import Endpoint, run_anywhere
from overtrain.judging.backends.base import reach
from overtrain.judging.backends.logprobs import prepare, read_preference
from overtrain.judging.preferences import Preference
from overtrain.judging.prompt import load_template


def body(top):
    return {"choices": [{"logprobs": {"content": [{"token": "x", "top_logprobs": top}]}}]}


def token(name, logprob):
    return {"token": name, "logprob": logprob}


@pytest.fixture
def template(tmp_path):
    (tmp_path / "t.txt").write_text(TEMPLATE)
    return load_template(tmp_path / "t.txt")


def backend(fake, template, **more):
    settings = {"concurrency": 4, "timeout": 5, "backoff": 0.01, "retries": 2} | more
    endpoint = Endpoint(url=fake.url, model="judge", **settings)

    async def ready():
        return await prepare(await reach(endpoint, template))

    return run_anywhere(ready())


@pytest.mark.parametrize(("m", "other"), [(-0.1, -3.0), (-20.0, -0.001), (-1.5, -1.5), (-0.0, -800.0), (-800.0, -0.0)])
def test_a_preference_is_alpaca_evals_formula(m, other):
    expected = math.exp(m - logsumexp([m, other]))
    found = read_preference(body([token("M", other), token("The", -0.1), token("m", m)]))
    assert found.first == pytest.approx(expected, abs=1e-12)
    assert not found.one_token


def test_one_of_the_two_tokens_is_enough_and_is_counted():
    assert read_preference(body([token("m", -3.0), token("Both", -0.1)])) == Preference(1.0, one_token=True)
    assert read_preference(body([token("M", -3.0), token("Both", -0.1)])) == Preference(0.0, one_token=True)


@pytest.mark.parametrize(
    "top", [[token("Both", -0.1)], [token("m", -9999.0), token("M", -9999.0)], [token(" m", -0.1)]]
)
def test_neither_token(top):
    assert read_preference(body(top)) == "neither_token"


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"choices": []},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"content": []}}]},
        {"choices": [{"logprobs": {"content": [{"token": "m"}]}}]},
        body(None),
        body([]),
        body([{"token": "m"}]),
        body([token("m", None)]),
        body([token("m", math.nan)]),
        body("text"),
    ],
)
def test_an_answer_without_log_probabilities(found):
    assert read_preference(found) == "no_logprobs"


def test_the_request_is_that_of_the_evaluator(template):
    with FakeJudge() as fake:
        judge = backend(fake, template)
    messages = template.fill("i", "a", "b")
    assert judge.request(messages) == {
        "model": "judge",
        "messages": messages,
        "max_tokens": 1,
        "temperature": 1,
        "top_p": 1.0,
        "logprobs": True,
        "top_logprobs": 5,
    }


def test_a_server_that_can_tokenise_is_asked_for_both_tokens(template):
    info = {"eos_token": "<END>", "added_tokens_decoder": {"7": {"content": "<ROLE>", "special": True}, "8": "<THIRD>"}}
    info |= {"extra_special_tokens": {"image_token": "<img>"}, "chat_template": "<NOT>", "tokenizer_class": "X"}
    with FakeJudge(token_ids=(76, 44), tokenizer_info=info) as fake:
        judge = backend(fake, template)
    assert judge.request([])["logprob_token_ids"] == [76, 44]
    text = "<END><ROLE><THIRD><img><NOT>"
    assert judge.server.special.broken(text) == ("< END>< ROLE>< THIRD>< img><NOT>", 4)


def test_the_key_is_of_everything_that_decides(template, tmp_path):
    (tmp_path / "other.txt").write_text(TEMPLATE + "\n")
    with FakeJudge() as fake:
        one = backend(fake, template)
        same = backend(fake, template, concurrency=9)
        other = backend(fake, load_template(tmp_path / "other.txt"))
    with FakeJudge(token_ids=(1, 2)) as fake:
        both = backend(fake, template)
    messages = template.fill("i", "a", "b")
    assert one.key(messages) == same.key(messages)
    keys = {one.key(messages), other.key(messages), both.key(messages), one.key(template.fill("i", "b", "a"))}
    assert len(keys) == 4


def test_top_logprobs_of_the_fake_are_what_it_was_told():
    assert read_preference(body(top_logprobs(0.3))).first == pytest.approx(0.3)
