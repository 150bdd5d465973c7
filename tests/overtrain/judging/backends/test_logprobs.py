"""One question to the judge: what is sent, what is read, what is missing."""

from __future__ import annotations

import math

import pytest
from fake_judge import TEMPLATE, FakeJudge, answer, failure, shown, top_logprobs
from scipy.special import logsumexp

from model_wrappers.errors import JudgeError
from model_wrappers.serving.client import Endpoint, run_anywhere
from overtrain_tasks.alpaca_eval.judge import judge_all, prepare, read_verdict
from overtrain_tasks.alpaca_eval.prompt import load_template
from overtrain_tasks.alpaca_eval.verdicts import Verdict, Verdicts


def body(top):
    return {"choices": [{"logprobs": {"content": [{"token": "x", "top_logprobs": top}]}}]}


def token(name, logprob):
    return {"token": name, "logprob": logprob}


@pytest.fixture
def template(tmp_path):
    (tmp_path / "t.txt").write_text(TEMPLATE)
    return load_template(tmp_path / "t.txt")


def endpoint(fake, **more):
    return Endpoint(url=fake.url, model="judge", timeout=5, backoff=0.01, retries=2, **({"concurrency": 4} | more))


@pytest.mark.parametrize(("m", "other"), [(-0.1, -3.0), (-20.0, -0.001), (-1.5, -1.5), (-0.0, -800.0), (-800.0, -0.0)])
def test_a_verdict_is_alpaca_evals_formula(m, other):
    expected = math.exp(m - logsumexp([m, other]))
    found = read_verdict(body([token("M", other), token("The", -0.1), token("m", m)]))
    assert found.first == pytest.approx(expected, abs=1e-12)
    assert not found.one_token


def test_one_of_the_two_tokens_is_enough_and_is_counted():
    assert read_verdict(body([token("m", -3.0), token("Both", -0.1)])) == Verdict(1.0, one_token=True)
    assert read_verdict(body([token("M", -3.0), token("Both", -0.1)])) == Verdict(0.0, one_token=True)


@pytest.mark.parametrize(
    "top", [[token("Both", -0.1)], [token("m", -9999.0), token("M", -9999.0)], [token(" m", -0.1)]]
)
def test_neither_token(top):
    assert read_verdict(body(top)) == "neither_token"


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
    assert read_verdict(found) == "no_logprobs"


def test_the_request_is_that_of_the_evaluator(template):
    with FakeJudge() as fake:
        judge = run_anywhere(prepare(endpoint(fake), template))
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
        judge = run_anywhere(prepare(endpoint(fake), template))
    assert judge.request([])["logprob_token_ids"] == [76, 44]
    text = "<END><ROLE><THIRD><img><NOT>"
    assert judge.special.broken(text) == ("< END>< ROLE>< THIRD>< img><NOT>", 4)


def test_the_key_is_of_everything_that_decides(template, tmp_path):
    (tmp_path / "other.txt").write_text(TEMPLATE + "\n")
    with FakeJudge() as fake:
        one = run_anywhere(prepare(endpoint(fake), template))
        same = run_anywhere(prepare(endpoint(fake, concurrency=9), template))
        other = run_anywhere(prepare(endpoint(fake), load_template(tmp_path / "other.txt")))
    with FakeJudge(token_ids=(1, 2)) as fake:
        both = run_anywhere(prepare(endpoint(fake), template))
    messages = template.fill("i", "a", "b")
    assert one.key(messages) == same.key(messages)
    keys = {one.key(messages), other.key(messages), both.key(messages), one.key(template.fill("i", "b", "a"))}
    assert len(keys) == 4


def ask(fake, template, pairs, path):
    """Judge (instruction, first, second); return instruction -> what was found."""
    found = {}
    with Verdicts(path) as verdicts:
        judge = run_anywhere(prepare(endpoint(fake), template))
        questions = [(judge.key(m), m) for m in (template.fill(*pair) for pair in pairs)]
        names = {key: pair[0] for (key, _), pair in zip(questions, pairs, strict=True)}
        done = run_anywhere(
            judge_all(judge, questions, verdicts, lambda key, said, _: found.__setitem__(names[key], said))
        )
        assert done is None
        stored = {names[key]: verdicts.get(key) for key, _ in questions}
    return found, stored


def test_verdicts_are_stored_and_failures_are_not(template, tmp_path):
    faults = {
        "long": failure(400, "This model's maximum context length is 10 tokens"),
        "refused": failure(422),
        "failing": failure(500),
        "garbage": "json",
        "silent": answer(None),
        "other": answer([token("Both", -0.1)]),
        "half": answer([token("M", -0.1)]),
    }

    def fault(_, request):
        name = shown(request["messages"])[0]
        if name == "garbage":
            return failure(200, "x").__class__(text="{garbage")
        found = faults.get(name)
        return found and found.__class__(status=found.status, text=found.text, content_type="application/json")

    pairs = [(name, "a", "b") for name in [*faults, "good"]]
    with FakeJudge(lambda messages: 0.75, fault=fault) as fake:
        found, stored = ask(fake, template, pairs, tmp_path / "v.sqlite")
    reasons = {n: r for n, r in found.items() if isinstance(r, str)}
    assert reasons == {
        "long": "context", "refused": "refused", "failing": "failed", "garbage": "failed", "silent": "no_logprobs",
        "other": "neither_token",
    }  # fmt: skip
    assert found["half"] == Verdict(0.0, one_token=True)
    assert found["good"].first == pytest.approx(0.75)
    assert {name for name, verdict in stored.items() if verdict is not None} == {"half", "good"}


def test_a_judge_without_log_probabilities_is_given_up_early(template, tmp_path):
    with FakeJudge(fault=lambda number, _: answer(None)) as fake:
        with pytest.raises(JudgeError, match=r"answers without log-probabilities.*top_logprobs"):
            ask(fake, template, [(str(n), "a", "b") for n in range(500)], tmp_path / "v.sqlite")
        assert len(fake.bodies) < 50


@pytest.mark.parametrize("text", ["<|im_end|>", "{output_2}", "x" * 100_000, "", "\n\n", "\ud800", '"}]}'])
def test_difficult_answers_reach_the_judge_whole(template, tmp_path, text):
    with FakeJudge(lambda messages: 0.5) as fake:
        judge = run_anywhere(prepare(endpoint(fake), template))
        first, _ = judge.special.broken(text)
        found, _ = ask(fake, template, [("q", first, "the other")], tmp_path / "v.sqlite")
        received = shown(fake.bodies[-1]["messages"])
    assert isinstance(found["q"], Verdict)
    assert received == ("q", first, "the other")
    assert len(received[1]) == len(text) + ("<|im_end|>" in text)


def test_top_logprobs_of_the_fake_are_what_it_was_told():
    assert read_verdict(body(top_logprobs(0.3))).first == pytest.approx(0.3)
