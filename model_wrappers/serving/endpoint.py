"""Whom to ask, and what can come of it."""

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
        url: up to and with ``/v1``, which is added where the URL has no path.
        model: as the server names it.
        api_key: default the environment's ``OPENAI_API_KEY``; none is fine for a server that wants none.
        concurrency: requests under way at a time.
        timeout: seconds for one try; also how long a server may keep answering 429 to one request.
        retries: of one request after 5xx, time-outs, lost connections and answers that are not JSON.
        backoff: seconds before the first retry, doubled for each further one, up to a minute; halved at random.

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
        """The server without ``/v1``: where vLLM has ``/tokenize`` and ``/health``."""
        return self.url.removesuffix("/v1")

    def headers(self) -> dict[str, str]:
        """Return what every request carries."""
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


class Reply(NamedTuple):
    """What came of one request.

    Attributes:
        body: the server's JSON, for ``ok``.
        error: why there is none, otherwise.
        kind: ``context``: the prompt is longer than the model's context; ``refused``: the server will not answer this
            request, however often it is asked; ``failed``: the retries are used up.
    """

    body: dict[str, Any] | None
    error: str | None
    kind: Kind
