"""Sends many requests to an OpenAI-compatible server: one session, bounded concurrency, retries with back-off.

A worker takes the next request when it is free, and every reply is handed over when it arrives, so memory does not grow with
the number of requests. A request that cannot succeed is different from a server that has gone. The first gives a
`Reply` without a body. The second ends the work with a `ServerError`, after every reply so far has been handed over.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from model_wrappers.errors import ServerError, close_match
from model_wrappers.serving.endpoint import Endpoint, Reply
from model_wrappers.serving.transport import attempt, proxy_for, session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    import aiohttp

    from model_wrappers.serving.transport import Try

__all__ = ["Endpoint", "Reply", "ask", "ask_all", "check", "fetch", "run_anywhere"]

Key = TypeVar("Key")
Result = TypeVar("Result")

_CHECK_SECONDS = 30.0
_LONGEST_WAIT = 60.0
_GONE_AFTER = 8  # requests in a row that could not even connect
_REFUSED_AFTER = 32  # refusals without a single answer
_HOPELESS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


async def check(endpoint: Endpoint) -> None:
    """Check that the server answers and serves the model.

    Raises:
        ServerError: the server does not answer, or does not serve the model.
    """
    reply = await fetch(endpoint, f"{endpoint.url}/models")
    if reply.body is None:
        raise ServerError(
            f"no model server answers at {endpoint.url} ({reply.error}); start one (`overtrain serve judge MODEL` prints "
            "the command) or give the URL of one that runs, up to and with /v1"
        )
    data = reply.body.get("data")
    served = [str(m.get("id")) for m in data if isinstance(m, dict)] if isinstance(data, list) else []
    if endpoint.model not in served:
        names = ", ".join(served[:20]) or "nothing"
        raise ServerError(
            f"the server at {endpoint.url} has no model {endpoint.model!r}{close_match(endpoint.model, served)}; it has {names}"
        )


async def fetch(endpoint: Endpoint, url: str, body: Mapping[str, Any] | None = None) -> Reply:
    """Send one request without retries: POST if there is a ``body``, else GET.

    Args:
        endpoint: gives the API key and the time-out (at most 30 s here).
        url: the full URL, because some paths are outside of ``/v1``.
        body: sent as JSON.
    """
    async with session(endpoint, min(endpoint.timeout, _CHECK_SECONDS)) as opened:
        data = None if body is None else json.dumps(body).encode()
        return (await attempt(opened, url, data, proxy_for(url))).reply


async def ask_all(
    endpoint: Endpoint,
    path: str,
    requests: Iterable[tuple[Key, Mapping[str, Any]]],
    on_reply: Callable[[Key, Reply], None],
) -> None:
    """Send every request, and hand over every reply when it arrives.

    Args:
        endpoint: the server. The bodies of the requests must name the model.
        path: path below the URL, e.g. ``/chat/completions``.
        requests: key and body of each request; the next pair is taken when a worker is free.
        on_reply: called once per request, always from the same thread.

    Raises:
        ServerError: the server has gone, or it refuses every request. Earlier replies have been handed over; requests under
            way are lost.
    """
    dispatch = _Dispatch(endpoint, f"{endpoint.url}{path}", iter(requests), on_reply)
    async with session(endpoint, endpoint.timeout) as opened:
        workers = [asyncio.create_task(dispatch.worker(opened)) for _ in range(endpoint.concurrency)]
        try:
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    for worker in done:
        worker.result()


def ask(
    endpoint: Endpoint,
    path: str,
    requests: Iterable[tuple[Key, Mapping[str, Any]]],
    on_reply: Callable[[Key, Reply], None],
) -> None:
    """Run `ask_all` and wait for its end; this works in notebooks too, where an event loop is already running."""
    run_anywhere(ask_all(endpoint, path, requests, on_reply))


def run_anywhere(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end. If this thread already runs an event loop, the coroutine runs in another thread."""
    if not _loop_runs():
        return asyncio.run(work)
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        try:
            loop.run_until_complete(asyncio.wait([task]))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="model-server-client")
    thread.start()
    try:
        thread.join()
    except BaseException:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    return task.result()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@dataclass
class _Dispatch:
    """The state that the workers of one `ask_all` share."""

    endpoint: Endpoint
    url: str
    requests: Iterator[tuple[Any, Mapping[str, Any]]]
    on_reply: Callable[[Any, Reply], None]
    proxy: str | None = None
    answered: int = 0
    refused: int = 0
    unconnected: int = 0  # consecutive requests without a connection
    failed: int = 0  # consecutive requests that failed
    heard: float = field(default_factory=time.monotonic)  # time of the server's last sign of life
    resume: float = 0.0  # no worker sends a request before this time

    def __post_init__(self) -> None:
        self.proxy = proxy_for(self.url)

    async def worker(self, opened: aiohttp.ClientSession) -> None:
        """Send requests until there are none left."""
        for key, body in self.requests:
            tried = await self._persist(opened, json.dumps(body).encode())
            self.on_reply(key, tried.reply)
            self._judge_server(tried)

    async def _persist(self, opened: aiohttp.ClientSession, data: bytes) -> Try:
        """Try until the server replies or refuses, or until the retries are used up."""
        started, retries = time.monotonic(), 0
        while True:
            while (pause := self.resume - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            tried = await attempt(opened, self.url, data, self.proxy)
            now = time.monotonic()
            if tried.status is not None:
                self.heard = now
            if not tried.again:
                return tried
            throttled = tried.status == HTTPStatus.TOO_MANY_REQUESTS
            silent = not tried.connected and now - self.heard > 2 * self.endpoint.timeout
            if silent or (now - started > self.endpoint.timeout if throttled else retries >= self.endpoint.retries):
                return tried
            await asyncio.sleep(self._delay(tried, retries))
            retries += 1

    def _delay(self, tried: Try, retries: int) -> float:
        if tried.wait is not None:  # the server asked us to wait, which holds for all workers
            self.resume = max(self.resume, time.monotonic() + tried.wait)
            return 0.05 * self.endpoint.backoff * random.random()  # noqa: S311
        longest = min(self.endpoint.backoff * 2.0 ** min(retries, 20), _LONGEST_WAIT)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    def _judge_server(self, tried: Try) -> None:
        """Raise if further requests cannot succeed."""
        reply = tried.reply
        self.unconnected = 0 if tried.connected else self.unconnected + 1
        self.failed = self.failed + 1 if reply.kind == "failed" else 0
        self.answered += reply.kind == "ok"
        self.refused += reply.kind == "refused"
        silent = not tried.connected and time.monotonic() - self.heard > 2 * self.endpoint.timeout
        if silent or self.unconnected >= min(_GONE_AFTER, self.endpoint.concurrency):
            raise ServerError(
                f"the server at {self.endpoint.url} is gone ({reply.error}); start it again and run the same command: what "
                "it has answered is kept"
            )
        if self.failed >= 2 * max(self.endpoint.concurrency, _REFUSED_AFTER):
            raise ServerError(
                f"the server at {self.endpoint.url} fails on everything, {self.failed} requests in a row ({reply.error}); "
                "see its log, then run the same command again: what it has answered is kept"
            )
        if tried.status in _HOPELESS or (not self.answered and self.refused >= _REFUSED_AFTER):
            raise ServerError(
                f"the server at {self.endpoint.url} refuses ({reply.error}); check the URL, the model's name "
                f"{self.endpoint.model!r} and OPENAI_API_KEY"
            )
