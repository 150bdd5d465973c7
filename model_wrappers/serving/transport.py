"""One try of a request over HTTP: the reply, and whether another try may help."""

from __future__ import annotations

import io
import json
import re
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from model_wrappers.serving.endpoint import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from model_wrappers.serving.endpoint import Endpoint

__all__ = ["Try", "attempt", "proxy_for", "session"]

_CONNECT_SECONDS = 30.0
_LARGE_BYTES = 500_000  # aiohttp sends a larger body in pieces only if it is a file-like object
_TOO_LONG = re.compile(
    r"context[ _]length|context[ _]window|max(imum)?[ _]model[ _]len|longer than the maximum|too (long|many tokens)",
    re.IGNORECASE,
)


class Try(NamedTuple):
    """One try of a request.

    Attributes:
        reply: the reply to hand over if this was the last try.
        again: whether another try may help.
        connected: whether the server answered at all.
        status: HTTP status.
        wait: seconds that the server asks us to wait.
    """

    reply: Reply
    again: bool = False
    connected: bool = True
    status: int | None = None
    wait: float | None = None


def session(endpoint: Endpoint, seconds: float) -> aiohttp.ClientSession:
    """Return a session for ``endpoint``; each try takes at most ``seconds``."""
    import aiohttp

    return aiohttp.ClientSession(
        headers=endpoint.headers(),
        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
        connector=aiohttp.TCPConnector(limit=endpoint.concurrency),
    )


async def attempt(session: aiohttp.ClientSession, url: str, data: bytes | None, proxy: str | None) -> Try:
    """Send one request (POST if there is ``data``, else GET) and classify the response."""
    import aiohttp

    method = "GET" if data is None else "POST"
    body = io.BytesIO(data) if data is not None and len(data) > _LARGE_BYTES else data
    try:
        async with session.request(method, url, data=body, proxy=proxy, allow_redirects=False) as response:
            text = (await response.read()).decode("utf-8", "replace")
            return _sorted(response.status, response.headers, text)
    except TimeoutError:
        seconds = session.timeout.total
        return Try(Reply(None, f"no answer within {seconds:g} s", "failed"), again=True, connected=False)
    except (aiohttp.ClientError, OSError) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Try(Reply(None, reason, "failed"), again=True, connected=False)


def _sorted(status: int, headers: Mapping[str, str], text: str) -> Try:
    if status == HTTPStatus.OK:
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            return Try(Reply(body, None, "ok"), status=status)
        return Try(Reply(None, f"the answer is not a JSON object: {text[:80]!r}", "failed"), again=True, status=status)
    error = f"HTTP {status}: {_message(text)}"
    if 300 <= status < 400:
        error = f"HTTP {status}: redirected to {headers.get('Location')!r}; give that URL"
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT} or status >= 500:
        return Try(Reply(None, error, "failed"), again=True, status=status, wait=_wait(headers.get("Retry-After")))
    too_long = status in {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE} and _TOO_LONG.search(text)
    return Try(Reply(None, error, "context" if too_long else "refused"), status=status)


def _message(text: str) -> str:
    """Return the message in an error's JSON (OpenAI's form or vLLM's older one), else the text; at most 300 characters."""
    try:
        body = json.loads(text)
        error = body.get("error", body)
        text = str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return " ".join(text.split())[:300]


def _wait(header: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (a number or a date), at most five minutes.

    >>> _wait("2"), _wait("soon"), _wait(None)
    (2.0, None, None)
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), 300.0) if seconds == seconds else None  # noqa: PLR0124  (not a number)


def proxy_for(url: str) -> str | None:
    """Return the environment's proxy for ``url``; None for addresses of this machine."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)
