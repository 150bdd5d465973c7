"""A judge that returns log-probabilities (vLLM, and OpenAI-compatible servers with ``top_logprobs``).

The judge writes one token. Its log-probabilities of the two names in the template give P(m) / (P(m) + P(M)), the
probability that the answer shown first is the better one. A server that can tokenise (vLLM) is asked for exactly these two
tokens. Any other server is asked for its five most likely tokens; a name that is not among them counts as probability 0.

Source: alpaca_eval 0.6.6, ``weighted_alpaca_eval_vllm_llama3_70b`` and ``logprob_parser``.
Deviation: both tokens are asked for by id where the server allows it; a question to which neither token comes back is
missing, reported and asked again, where alpaca_eval stores it and leaves it out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import JudgeError
from model_wrappers.serving.client import ask_all, fetch
from overtrain.judging.backends.base import GIVE_UP_AFTER, BackendRecord
from overtrain.judging.preferences import Preference
from overtrain.judging.prompt import FIRST, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from model_wrappers.serving.client import Endpoint, Reply
    from overtrain.judging.backends.base import JudgeServer, Messages, OnReply, Question, Reason

__all__ = ["LogprobsBackend", "prepare", "read_preference"]

_PARAMETERS: dict[str, Any] = {"max_tokens": 1, "temperature": 1, "top_p": 1.0, "logprobs": True, "top_logprobs": 5}
_NONE = -9999.0  # vLLM's stand-in for minus infinity, which JSON cannot say


@dataclass(frozen=True)
class LogprobsBackend:
    """Reads the preference from the log-probabilities of one token.

    Attributes:
        server: the judge that is asked.
        token_ids: of the two names, where the server can tokenise.
    """

    server: JudgeServer
    token_ids: tuple[int, int] | None

    def request(self, messages: Messages) -> dict[str, Any]:
        """Return the body of one request."""
        more = {} if self.token_ids is None else {"logprob_token_ids": list(self.token_ids)}
        return {"model": self.server.endpoint.model, "messages": messages} | _PARAMETERS | more

    def key(self, messages: Messages) -> bytes:
        """Return the digest of the template and the request; keys of earlier versions stay what they were."""
        return self.server.key(self.request(messages))

    def describe(self) -> BackendRecord:
        """Return the backend's name, and whether both tokens were asked for by id."""
        return BackendRecord("logprobs", both_tokens=self.token_ids is not None)

    async def ask(self, questions: Iterable[Question], on_reply: OnReply) -> None:
        """Send one request per question; see `Backend.ask`."""
        readable = useless = 0

        def answered(key: bytes, answer: Reply) -> None:
            nonlocal readable, useless
            if answer.body is None:
                on_reply(key, answer.kind, answer.error or "")  # type: ignore[arg-type]  # "ok" has a body
                return
            found = read_preference(answer.body)
            readable += isinstance(found, Preference)
            useless += found == "no_logprobs"
            if useless >= GIVE_UP_AFTER and not readable:
                endpoint = self.server.endpoint
                raise JudgeError(
                    f"{endpoint.model} at {endpoint.url} answers without log-probabilities; use a server that returns "
                    "`logprobs` with `top_logprobs` (vLLM does), or ask this one with --backend sampled"
                )
            on_reply(key, found, "")

        requests = ((question.key, self.request(question.messages)) for question in questions)
        await ask_all(self.server.endpoint, "/chat/completions", requests, answered)


async def prepare(server: JudgeServer) -> LogprobsBackend:
    """Return the backend, with the ids of the two names where the server can tokenise."""
    ids = [await _token_id(server.endpoint, name) for name in (FIRST, SECOND)]
    return LogprobsBackend(server, (ids[0], ids[1]) if ids[0] is not None and ids[1] is not None else None)


def read_preference(body: Mapping[str, Any]) -> Preference | Reason:
    """Return P(m) / (P(m) + P(M)) from a chat completion, or the reason why it gives no preference.

    >>> top = [{"token": "m", "logprob": -0.5}, {"token": "M", "logprob": -0.5 - math.log(3)}]
    >>> round(read_preference({"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}).first, 9)
    0.75
    """
    try:
        top = body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {str(t["token"]): float(t["logprob"]) for t in top if t["token"] in {FIRST, SECOND}}
    except (KeyError, IndexError, TypeError, ValueError):
        return "no_logprobs"
    if not top or any(math.isnan(value) for value in found.values()):
        return "no_logprobs"
    first, second = (found.get(name, -math.inf) for name in (FIRST, SECOND))
    if max(first, second) <= _NONE:
        return "neither_token"
    if len(found) == 1:
        return Preference(1.0 if FIRST in found else 0.0, one_token=True)
    return Preference(1 / (1 + math.exp(min(second - first, 700.0))))  # exp overflows above 709; by then it is 0


async def _token_id(endpoint: Endpoint, name: str) -> int | None:
    """Return the one token that spells ``name``, if the server can say that and it is one."""
    body = {"model": endpoint.model, "prompt": name, "add_special_tokens": False}
    tokens = ((await fetch(endpoint, f"{endpoint.root}/tokenize", body)).body or {}).get("tokens")
    if isinstance(tokens, list) and len(tokens) == 1 and isinstance(tokens[0], int):
        return tokens[0]
    return None
