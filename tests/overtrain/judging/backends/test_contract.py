"""What every backend promises: one reply per question, whatever the server does, and keys that keep preferences apart."""

from __future__ import annotations

import pytest
from fake_judge import TEMPLATE, FakeJudge, answer, failure, shown, texts

from model_wrappers.errors import JudgeError, ServerError
from model_wrappers.serving.client import Endpoint, run_anywhere
from overtrain.judging.backends import logprobs, sampled
from overtrain.judging.backends.base import REASONS, Question, reach
from overtrain.judging.preferences import Preference
from overtrain.judging.prompt import load_template

SAMPLES = 4


@pytest.fixture
def template(tmp_path):
    (tmp_path / "t.txt").write_text(TEMPLATE)
    return load_template(tmp_path / "t.txt")


@pytest.fixture(params=["logprobs", "sampled", "sampled one at a time"])
def kind(request):
    return request.param


def fake_of(kind, opinion=lambda _: 0.75, **more):
    return FakeJudge(opinion, choices=1 if kind.endswith("time") else 100, **more)


def backend(kind, fake, template, samples=SAMPLES, **more):
    settings = {"model": fake.model, "concurrency": 4, "timeout": 5, "backoff": 0.01, "retries": 2} | more

    async def ready():
        server = await reach(Endpoint(url=fake.url, **settings), template)
        return await (logprobs.prepare(server) if kind == "logprobs" else sampled.prepare(server, samples))

    return run_anywhere(ready())


def questions_of(asked, template, names):
    made = [template.fill(name, f"{name} one", f"{name} two") for name in names]
    return {name: Question(asked.key(m), m) for name, m in zip(names, made, strict=True)}


def ask(kind, fake, template, names, **more):
    """Ask about every name; return name -> reply, having seen that each has one."""
    asked = backend(kind, fake, template, **more)
    questions = questions_of(asked, template, names)
    replies = []
    run_anywhere(asked.ask(questions.values(), lambda key, reply, _: replies.append((key, reply))))
    assert sorted(key for key, _ in replies) == sorted(q.key for q in questions.values())
    found = dict(replies)
    return {name: found[question.key] for name, question in questions.items()}


def test_the_preference_is_the_judges_own(kind, template):
    shares = {"never": 0.0, "seldom": 0.25, "half": 0.5, "mostly": 0.75, "always": 1.0}
    with fake_of(kind, lambda messages: shares[shown(messages)[0]]) as fake:
        found = ask(kind, fake, template, list(shares))
    assert {name: reply.first for name, reply in found.items()} == pytest.approx(shares, abs=1e-9)
    assert {reply.samples for reply in found.values()} == {None if kind == "logprobs" else SAMPLES}


def test_many_questions_have_one_reply_each(kind, template):
    with fake_of(kind) as fake:
        found = ask(kind, fake, template, [f"q{n}" for n in range(150)])
    assert {reply.first for reply in found.values()} == {0.75} or kind == "logprobs"
    assert len(found) == 150


def test_no_questions_have_no_replies(kind, template):
    with fake_of(kind) as fake:
        assert ask(kind, fake, template, []) == {}


def test_what_cannot_be_answered_has_a_reason(kind, template):
    faults = {
        "long": (failure(400, "This model's maximum context length is 10 tokens"), "context"),
        "refused": (failure(422), "refused"),
        "failing": (failure(500), "failed"),
        "other": (
            (answer([{"token": "Both", "logprob": -0.1}]), "neither_token")
            if kind == "logprobs"
            else (texts(["Both", None, "neither", "Mm"]), "unreadable")
        ),
        "silent": (answer(None), "no_logprobs") if kind == "logprobs" else (texts([]), "failed"),
    }

    def fault(_, body):
        name = shown(body["messages"])[0]
        found = faults.get(name, (None,))[0]
        return found and found.__class__(status=found.status, text=found.text, content_type="application/json")

    with fake_of(kind, fault=fault) as fake:
        found = ask(kind, fake, template, [*faults, "good"])
    assert {name: found[name] for name in faults} == {name: reason for name, (_, reason) in faults.items()}
    assert set(found.values()) - {found["good"]} <= set(REASONS)
    assert found["good"].first == pytest.approx(0.75)


def test_faults_that_pass_cost_nothing(kind, template):
    seen = set()

    def fault(number, body):
        name = shown(body["messages"])[0]
        if name in seen or "FIRST" not in body["messages"][-1]["content"]:
            return None
        seen.add(name)
        return [failure(429, "slow", Retry_After="0.05"), failure(500), "drop", None][number % 4]

    with fake_of(kind, fault=fault) as fake:
        found = ask(kind, fake, template, [f"q{n}" for n in range(24)])
    assert {round(reply.first, 9) for reply in found.values()} == {0.75}


def test_a_server_that_goes_down_ends_the_asking_and_replies_are_kept(kind, template):
    with fake_of(kind, fault=lambda number, _: "die" if number == 40 else None) as fake:
        asked = backend(kind, fake, template)
        questions = questions_of(asked, template, [f"q{n}" for n in range(150)])
        replies = []
        with pytest.raises(ServerError, match="is gone"):
            run_anywhere(asked.ask(questions.values(), lambda key, reply, _: replies.append(reply)))
    assert sum(isinstance(reply, Preference) for reply in replies) >= 5
    assert len(replies) < 150


def test_a_judge_that_cannot_be_read_is_given_up_early(kind, template):
    reply = (lambda _: answer(None)) if kind == "logprobs" else lambda body: texts(["Well,"] * body.get("n", 1))
    match = "answers without log-probabilities.*sampled" if kind == "logprobs" else "names neither m nor M.*'Well,'"
    with fake_of(kind, fault=lambda _, body: reply(body)) as fake, pytest.raises(JudgeError, match=match):
        ask(kind, fake, template, [str(n) for n in range(500)])
    assert len(fake.bodies) < 50 * SAMPLES


@pytest.mark.parametrize("text", ["<|im_end|>", "{output_2}", "x" * 100_000, "", "\n\n", "\ud800", '"}]}'])
def test_difficult_answers_reach_the_judge_whole(kind, template, text):
    with fake_of(kind) as fake:
        asked = backend(kind, fake, template)
        first, _ = asked.server.special.broken(text)
        messages = template.fill("q", first, "the other")
        replies = []
        run_anywhere(asked.ask([Question(asked.key(messages), messages)], lambda *reply: replies.append(reply[1])))
        received = shown(fake.bodies[-1]["messages"])
    assert isinstance(replies[0], Preference)
    assert received == ("q", first, "the other")
    assert len(received[1]) == len(text) + ("<|im_end|>" in text)


def test_preferences_of_different_judges_have_different_keys(template, tmp_path):
    """Backend, number of samples, model, prompt, pair and order; where and how fast it is asked does not matter."""
    (tmp_path / "other.txt").write_text(TEMPLATE + "\n")
    other = load_template(tmp_path / "other.txt")
    messages, swapped = template.fill("i", "a", "b"), template.fill("i", "b", "a")
    with FakeJudge() as fake, FakeJudge(model="another") as another, FakeJudge(choices=1) as slow:
        keys = [
            backend("logprobs", fake, template).key(messages),
            backend("logprobs", another, template).key(messages),
            backend("logprobs", fake, other).key(messages),
            backend("logprobs", fake, template).key(swapped),
            backend("sampled", fake, template).key(messages),
            backend("sampled", fake, template, samples=5).key(messages),
            backend("sampled", another, template).key(messages),
            backend("sampled", fake, other).key(messages),
            backend("sampled", fake, template).key(swapped),
        ]
        assert len(set(keys)) == len(keys)
        assert backend("sampled", slow, template, concurrency=9).key(messages) == keys[4]
