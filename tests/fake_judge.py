"""A judge for tests: an OpenAI-compatible server on loopback that has opinions, and faults on demand.

No model is behind it. Use it as a context manager; ``judge.url`` is what a client is given.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["TEMPLATE", "FakeJudge", "answer", "failure", "shown", "texts", "top_logprobs"]

TEMPLATE = """<|im_start|>system
Compare.
<|im_end|>
<|im_start|>user
Q: {instruction}
FIRST: {output_1}
SECOND: {output_2}
<|im_end|>"""
"""A small template that `shown` can read back."""


class FakeJudge:
    """A server in a thread.

    Args:
        opinion: messages -> probability that the first answer is the better one.
        fault: called with the number of the request (from 0) and its body before anything else; returns a response to send
            in place of an answer, ``"hang"`` (never answers), ``"drop"`` (cuts the connection), ``"die"`` (the server goes
            down) or None.
        model: that it serves.
        token_ids: of m and M; then it can tokenise, and honours ``logprob_token_ids``.
        tokenizer_info: what ``/tokenizer_info`` returns, if anything.
        choices: the most that it returns for one request without ``logprobs``, whatever ``n`` asks for.
    """

    def __init__(
        self,
        opinion: Callable[[list[dict[str, str]]], float] = lambda _: 0.5,
        *,
        fault: Callable[[int, dict[str, Any]], web.Response | str | None] = lambda _, __: None,
        model: str = "judge",
        token_ids: tuple[int, int] | None = None,
        tokenizer_info: dict[str, Any] | None = None,
        choices: int = 100,
    ) -> None:
        self.opinion, self.fault, self.model = opinion, fault, model
        self.token_ids, self.tokenizer_info = token_ids, tokenizer_info
        self.choices = choices
        self.drawn: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self.busiest = self._busy = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self) -> None:
        """Start, on the port of last time if there was one."""
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10), "the fake judge did not start"

    def stop(self) -> None:
        """Go down: connections are cut, the port is closed."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._down.set)
            self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        try:
            self._loop.run_until_complete(self._serve(ready))
        finally:
            self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._down = asyncio.Event()
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        if self.token_ids is not None:
            app.router.add_post("/tokenize", self._tokenize)
        if self.tokenizer_info is not None:
            app.router.add_get("/tokenizer_info", self._info)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        ready.set()
        await self._down.wait()
        for connection in runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        prompt = (await request.json())["prompt"]
        return web.json_response({"tokens": [self.token_ids[["m", "M"].index(prompt)]], "count": 1})

    async def _info(self, _: web.Request) -> web.Response:
        return web.json_response(self.tokenizer_info)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        number = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            return await self._reply(number, body, request)
        finally:
            self._busy -= 1

    async def _reply(self, number: int, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        fault = self.fault(number, body)
        if fault == "die":
            self._down.set()
        if fault == "drop":
            request.transport.abort()
        if isinstance(fault, str):
            await asyncio.sleep(60)
        if isinstance(fault, web.Response):
            return fault
        await asyncio.sleep(0)
        messages = body.get("messages", [])
        if messages and not body.get("logprobs"):
            return texts([self._drawn(messages) for _ in range(min(body.get("n", 1), self.choices))])
        return answer(top_logprobs(self.opinion(messages)))

    def _drawn(self, messages: list[dict[str, str]]) -> str:
        """Return the next sample: of the first k, floor(k * opinion) are m. What is no comparison is answered with m."""
        if "FIRST: " not in messages[-1]["content"]:
            return "m"
        name = json.dumps(messages)
        self.drawn[name] += 1
        share = self.opinion(messages) + 1e-9
        return "m" if int(self.drawn[name] * share) > int((self.drawn[name] - 1) * share) else "M"


def top_logprobs(first: float) -> list[dict[str, Any]]:
    """Return what a judge says that gives the first answer this probability, with a tenth left for other words."""
    both = [("m", first), ("M", 1 - first)]
    return [
        {"token": token, "logprob": math.log(0.9 * p) if p else -9999.0} for token, p in [*both, ("The", 0.1 / 0.9)]
    ]


def answer(top: Iterable[dict[str, Any]] | None) -> web.Response:
    """Return a chat completion of one token with these log-probabilities, or without any."""
    logprobs = None if top is None else {"content": [{"token": "m", "logprob": -0.1, "top_logprobs": list(top)}]}
    message = {"role": "assistant", "content": "m"}
    return web.json_response({"choices": [{"index": 0, "message": message, "logprobs": logprobs}]})


def texts(answers: Iterable[str | None]) -> web.Response:
    """Return a chat completion without log-probabilities: one choice per text."""
    choices = [{"index": n, "message": {"role": "assistant", "content": text}} for n, text in enumerate(answers)]
    return web.json_response({"choices": choices})


def failure(status: int, message: str = "no", **headers: str) -> web.Response:
    """Return an error as OpenAI-compatible servers write it."""
    text = json.dumps({"error": {"message": message, "type": "error", "code": status}})
    return web.Response(status=status, text=text, headers={n.replace("_", "-"): v for n, v in headers.items()})


def shown(messages: list[dict[str, str]]) -> tuple[str, str, str]:
    """Return instruction, first and second answer of a prompt made with `TEMPLATE`."""
    content = messages[-1]["content"].removeprefix("Q: ")
    instruction, _, rest = content.partition("\nFIRST: ")
    first, _, second = rest.partition("\nSECOND: ")
    return instruction, first, second
