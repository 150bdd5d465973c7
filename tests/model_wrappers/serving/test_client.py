"""The client against a server with faults: nothing is lost, nothing is asked for ever."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from email.utils import formatdate

import pytest
from aiohttp import web
from fake_judge import FakeJudge, answer, failure

from model_wrappers.errors import ConfigError, ServerError
from model_wrappers.serving import transport
from model_wrappers.serving.client import Endpoint, ask, check, run_anywhere

QUICK = {"model": "judge", "timeout": 5.0, "backoff": 0.01, "retries": 3, "concurrency": 8}


def _ask(judge, number, **settings):
    """Send ``number`` requests; return key -> answer."""
    found = {}

    def note(key, given):
        assert key not in found
        found[key] = given

    endpoint = Endpoint(url=judge.url, **(QUICK | settings))
    ask(endpoint, "/chat/completions", ((n, {"model": "judge", "messages": [], "n": n}) for n in range(number)), note)
    return found


def test_every_request_is_answered_once_and_concurrency_is_bounded():
    with FakeJudge() as judge:
        found = _ask(judge, 100, concurrency=5)
        assert sorted(found) == list(range(100))
        assert {a.kind for a in found.values()} == {"ok"}
        assert sorted(b["n"] for b in judge.bodies) == list(range(100))
        assert 2 <= judge.busiest <= 5


def test_requests_are_pulled_as_workers_become_free():
    pulled, ahead, answered = 0, 0, 0

    def requests():
        nonlocal pulled, ahead
        for n in range(200):
            pulled += 1
            ahead = max(ahead, pulled - answered)
            yield n, {"n": n}

    def note(_, __):
        nonlocal answered
        answered += 1

    with FakeJudge() as judge:
        ask(Endpoint(url=judge.url, **(QUICK | {"concurrency": 4})), "/chat/completions", requests(), note)
    assert answered == 200
    assert ahead <= 5


def test_an_api_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    with FakeJudge() as judge:
        _ask(judge, 1)
        _ask(judge, 1, api_key="given")
        assert [h["Authorization"] for h in judge.headers] == ["Bearer from-environment", "Bearer given"]
    assert "given" not in repr(Endpoint(url="http://h/v1", model="m", api_key="given"))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (lambda: failure(500), "500"),
        (lambda: failure(503), "503"),
        (lambda: failure(429), "429"),
        (lambda: web.Response(text="<html>not JSON"), "not JSON"),
        (lambda: web.Response(text="[1]"), "not a JSON object"),
        (lambda: "drop", "drop"),
    ],
)
def test_a_passing_fault_costs_nothing(fault, text):
    tries = {}

    def twice(_, body):
        tries[body["n"]] = tries.get(body["n"], 0) + 1
        return fault() if tries[body["n"]] <= 2 else None

    with FakeJudge(fault=twice) as judge:
        found = _ask(judge, 20)
    assert {a.kind for a in found.values()} == {"ok"}, text
    assert set(tries.values()) == {3}


def test_a_hang_ends_in_a_retry():
    with FakeJudge(fault=lambda number, _: "hang" if number == 0 else None) as judge:
        found = _ask(judge, 5, timeout=0.3)
    assert {a.kind for a in found.values()} == {"ok"}


def test_one_poisonous_request_fails_alone():
    with FakeJudge(fault=lambda _, body: failure(500, "cannot") if body["n"] == 7 else None) as judge:
        found = _ask(judge, 50)
        assert sum(b["n"] == 7 for b in judge.bodies) == 4  # one try, three retries
    assert [(n, a.kind) for n, a in found.items() if a.kind != "ok"] == [(7, "failed")]
    assert "HTTP 500: cannot" in found[7].error


def test_a_refused_request_is_not_asked_again():
    with FakeJudge(fault=lambda _, body: failure(422, "will not") if body["n"] in {3, 4} else None) as judge:
        found = _ask(judge, 10)
        assert len(judge.bodies) == 10
    assert {n for n, a in found.items() if a.kind == "refused"} == {3, 4}
    assert found[3].body is None
    assert "will not" in found[3].error


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "'max_tokens' is too large: 1. This model's maximum context length is 512 tokens",
    ],
)
def test_a_prompt_over_the_context_is_told_apart(message):
    with FakeJudge(fault=lambda _, body: failure(400, message) if body["n"] == 1 else None) as judge:
        found = _ask(judge, 3)
        assert len(judge.bodies) == 3
    assert found[1].kind == "context"
    assert {found[0].kind, found[2].kind} == {"ok"}


def test_retry_after_holds_everybody_back():
    asked = []

    def storm(number, _):
        asked.append(time.monotonic())
        return failure(429, "slow down", Retry_After="1") if number == 0 else None

    with FakeJudge(fault=storm) as judge:
        found = _ask(judge, 6, concurrency=1)
    assert {a.kind for a in found.values()} == {"ok"}
    assert min(later - asked[0] for later in asked[1:]) >= 0.95


def test_a_storm_of_429_may_last_longer_than_the_retries():
    with FakeJudge(fault=lambda number, _: failure(429) if number < 24 else None) as judge:
        found = _ask(judge, 4, concurrency=4, retries=1)
    assert {a.kind for a in found.values()} == {"ok"}


def test_retry_after_as_a_date():
    assert 8 < transport._wait(formatdate(time.time() + 10, usegmt=True)) <= 10
    assert transport._wait("1e9") == 300
    assert transport._wait("nan") is None
    assert transport._wait("-5") == 0


def test_a_server_that_dies_ends_the_work_after_what_came():
    found = {}
    with FakeJudge(fault=lambda number, _: "die" if number == 40 else None) as judge:
        endpoint = Endpoint(url=judge.url, **QUICK)
        requests = ((n, {"n": n}) for n in range(10_000))
        started = time.monotonic()
        with pytest.raises(ServerError, match=r"is gone .*run the same command"):
            ask(endpoint, "/chat/completions", requests, found.__setitem__)
        assert time.monotonic() - started < 20
    good = [n for n, a in found.items() if a.kind == "ok"]
    assert len(good) >= 30
    assert sum(1 for a in found.values() if a.kind != "ok") <= 8


def test_a_server_that_comes_back_is_waited_for():
    with FakeJudge(fault=lambda number, _: "die" if number == 20 else None) as judge:

        def restart():
            judge._thread.join()
            time.sleep(0.3)
            judge.start()

        helper = threading.Thread(target=restart)
        helper.start()
        found = _ask(judge, 60, backoff=0.1, retries=6)
        helper.join()
    assert {a.kind for a in found.values()} == {"ok"}
    assert len(found) == 60


def test_a_server_that_only_hangs_is_given_up():
    with FakeJudge(fault=lambda number, _: "hang") as judge:
        started = time.monotonic()
        with pytest.raises(ServerError, match=r"is gone \(no answer within 0.2 s\)"):
            _ask(judge, 100, timeout=0.2, retries=100)
        assert time.monotonic() - started < 10


def test_a_server_that_fails_on_everything_is_given_up():
    with FakeJudge(fault=lambda number, _: failure(500, "engine is dead")) as judge:
        with pytest.raises(ServerError, match=r"fails on everything.*engine is dead"):
            _ask(judge, 10_000, retries=0)
        assert len(judge.bodies) < 200


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_path_ends_the_work_at_once(status):
    with FakeJudge(fault=lambda number, _: failure(status, "go away")) as judge:
        with pytest.raises(ServerError, match=rf"refuses \(HTTP {status}: go away\).*OPENAI_API_KEY"):
            _ask(judge, 1000)
        assert len(judge.bodies) <= 8


def test_a_server_that_refuses_everything_is_given_up():
    with FakeJudge(fault=lambda number, _: failure(400, "no logprobs here")) as judge:
        with pytest.raises(ServerError, match="no logprobs here"):
            _ask(judge, 1000)
        assert len(judge.bodies) <= 48


def test_what_the_caller_raises_comes_out_as_it_is():
    def bad(_, __):
        raise KeyError("mine")

    with FakeJudge() as judge, pytest.raises(KeyError, match="mine"):
        ask(Endpoint(url=judge.url, **QUICK), "/chat/completions", ((n, {}) for n in range(9)), bad)


def test_it_works_inside_a_running_loop():
    async def main():
        return _ask(judge, 10)

    with FakeJudge() as judge:
        assert len(asyncio.run(main())) == 10


def test_check_names_what_is_served():
    with FakeJudge(model="Llama-3-70B") as judge:
        run_anywhere(check(Endpoint(url=judge.url, model="Llama-3-70B")))
        with pytest.raises(
            ServerError, match=r"no model 'Llama-3-7B'; did you mean 'Llama-3-70B'\?; it has Llama-3-70B"
        ):
            run_anywhere(check(Endpoint(url=judge.url, model="Llama-3-7B")))


def test_check_of_a_server_that_is_down():
    with FakeJudge() as judge:
        url = judge.url
    with pytest.raises(ServerError, match=r"no model server answers at .*overtrain serve judge"):
        run_anywhere(check(Endpoint(url=url, model="judge")))


def test_a_redirect_is_not_followed():
    elsewhere = web.Response(status=307, headers={"Location": "http://elsewhere/v1"})
    with FakeJudge(fault=lambda number, _: elsewhere if number == 0 else None) as judge:
        found = _ask(judge, 3, concurrency=1)
    assert "http://elsewhere/v1" in found[0].error


def test_large_texts_pass():
    with FakeJudge() as judge:
        found = {}
        body = {"messages": [{"role": "user", "content": "x" * 3_000_000 + "\ud800"}]}
        ask(Endpoint(url=judge.url, **QUICK), "/chat/completions", [("large", body)], found.__setitem__)
        assert judge.bodies == [json.loads(json.dumps(body))]
    assert found["large"].kind == "ok"


def test_an_answer_that_breaks_off_is_asked_again():
    whole = json.loads(answer(None).text)

    def cut(number, _):
        return web.Response(text=json.dumps(whole)[:20]) if number == 0 else None

    with FakeJudge(fault=cut) as judge:
        assert _ask(judge, 1)[0].kind == "ok"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h/v1", "http:///v1", ""])
def test_a_url_that_is_none(url):
    with pytest.raises(ConfigError, match="http://HOST:PORT/v1"):
        Endpoint(url=url, model="m")


def test_urls_and_numbers():
    assert Endpoint(url="http://h:1", model="m").url == "http://h:1/v1"
    assert Endpoint(url="https://h/api/v1/", model="m").url == "https://h/api/v1"
    assert Endpoint(url="https://h/api/v1", model="m").root == "https://h/api"
    with pytest.raises(ConfigError, match="password"):
        Endpoint(url="http://me:secret@h/v1", model="m")
    with pytest.raises(ConfigError, match="concurrency 0"):
        Endpoint(url="http://h/v1", model="m", concurrency=0)


def test_a_proxy_is_never_used_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert transport.proxy_for("http://judge.example/v1") == "http://proxy:3128"
    assert transport.proxy_for("http://127.0.0.1:8000/v1") is None
    assert transport.proxy_for("http://localhost:8000/v1") is None
