"""The address of a model server, and the reply to a request."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from model_wrappers.errors import ConfigError

__all__ = ["Endpoint", "Kind", "Reply"]

Kind = Literal["ok", "context", "refused", "failed"]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server and the model to ask there.

    Attributes:
        url: the URL with its ending ``/v1``, which is added if the URL has no path.
        model: the model's name on the server.
        api_key: by default the environment's ``OPENAI_API_KEY``; None if the server needs no key.
        concurrency: largest number of simultaneous requests.
        timeout: seconds for one try. A server may also answer 429 to one request for this long.
        retries: number of retries of a request after 5xx, a time-out, a lost connection or a reply that is not JSON.
        backoff: seconds before the first retry. The time doubles for each further retry, up to a minute, and is reduced by a
            random share of up to one half.

    Raises:
        ConfigError: the URL or a number cannot be right.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 64
    timeout: float = 600.0
    retries: int = 6
    backoff: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"{self.url!r} is no URL of a server; give it as http://HOST:PORT/v1")
        if parts.username or parts.password:
            raise ConfigError("a judge's URL must not carry a password; set OPENAI_API_KEY instead")
        if self.concurrency < 1 or self.timeout <= 0 or self.retries < 0 or self.backoff < 0:
            raise ConfigError(
                f"concurrency {self.concurrency}, timeout {self.timeout}, retries {self.retries} and backoff {self.backoff}: "
                "the first must be at least 1, the second above 0, the others at least 0"
            )
        path = parts.path.rstrip("/") or "/v1"
        object.__setattr__(self, "url", f"{parts.scheme}://{parts.netloc}{path}")

    @property
    def root(self) -> str:
        """The URL without ``/v1``; vLLM's ``/tokenize`` and ``/health`` are there."""
        return self.url.removesuffix("/v1")

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers of every request."""
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


class Reply(NamedTuple):
    """The outcome of one request.

    Attributes:
        body: the server's JSON if ``kind`` is ``ok``, else None.
        error: the reason if there is no body.
        kind: ``ok``; ``context``: the prompt is longer than the model's context; ``refused``: the server will never answer
            this request; ``failed``: all retries failed.
    """

    body: dict[str, Any] | None
    error: str | None
    kind: Kind
