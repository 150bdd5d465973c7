"""One question to the judge: which of two answers is better, as a probability.

The judge writes one token. Its log-probabilities of the two names in the template give P(m) / (P(m) + P(M)), the
probability that the answer shown first is the better one. A server that can tokenise (vLLM) is asked for exactly these two
tokens; any other one for its five most likely, of which one of the two may be missing and then counts 0.

Source: alpaca_eval 0.6.6, ``weighted_alpaca_eval_vllm_llama3_70b`` and ``logprob_parser``.
Deviation: both tokens are asked for by id where the server allows it; a verdict without either token is missing, reported
and asked again, where alpaca_eval stores it and leaves it out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from model_wrappers.errors import JudgeError
from model_wrappers.serving.client import ask_all, check, fetch
from overtrain_tasks.alpaca_eval.prompt import FIRST, SECOND, SpecialTokens
from overtrain_tasks.alpaca_eval.verdicts import Verdict, verdict_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from model_wrappers.serving.client import Answer, Endpoint
    from overtrain_tasks.alpaca_eval.prompt import Template
    from overtrain_tasks.alpaca_eval.verdicts import Verdicts

__all__ = ["REASONS", "Judge", "Reason", "judge_all", "prepare", "read_verdict"]

Reason = Literal["context", "refused", "failed", "no_logprobs", "neither_token"]

REASONS: dict[Reason, str] = {
    "context": "longer than the judge's context",
    "refused": "refused by the server",
    "failed": "no answer after all retries",
    "no_logprobs": "an answer without log-probabilities",
    "neither_token": f"neither {FIRST} nor {SECOND} among the log-probabilities",
}
"""Why a verdict can be missing."""

_PARAMETERS: dict[str, Any] = {"max_tokens": 1, "temperature": 1, "top_p": 1.0, "logprobs": True, "top_logprobs": 5}
_NONE = -9999.0  # vLLM's stand-in for minus infinity, which JSON cannot say
_USELESS_AFTER = 32  # answers without log-probabilities, and not one with


@dataclass(frozen=True)
class Judge:
    """A server that judges, and how it is asked.

    Attributes:
        endpoint: the server and the model.
        template: of the prompt.
        token_ids: of the two names, where the server can tokenise.
        special: what is broken in texts.
    """

    endpoint: Endpoint
    template: Template
    token_ids: tuple[int, int] | None
    special: SpecialTokens

    def request(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """Return the body of one request."""
        more = {} if self.token_ids is None else {"logprob_token_ids": list(self.token_ids)}
        return {"model": self.endpoint.model, "messages": messages} | _PARAMETERS | more

    def key(self, messages: list[dict[str, str]]) -> bytes:
        """Return what the verdict is stored under."""
        return verdict_key({"template": self.template.sha256} | self.request(messages))


async def prepare(endpoint: Endpoint, template: Template) -> Judge:
    """See that the server is up, and learn what its tokenizer says of the two names and of special tokens.

    Raises:
        JudgeError: it is not up, or does not have the model.
    """
    await check(endpoint)
    ids = [await _token_id(endpoint, name) for name in (FIRST, SECOND)]
    token_ids = (ids[0], ids[1]) if ids[0] is not None and ids[1] is not None else None
    info = await fetch(endpoint, f"{endpoint.root}/tokenizer_info")
    return Judge(endpoint, template, token_ids, SpecialTokens(_special_tokens(info.body or {})))


async def judge_all(
    judge: Judge,
    questions: Iterable[tuple[bytes, list[dict[str, str]]]],
    verdicts: Verdicts,
    on_done: Callable[[bytes, Verdict | Reason, str], None],
) -> None:
    """Ask every question and store every verdict.

    Args:
        judge: whom.
        questions: `Judge.key` and messages; pulled as the judge becomes free.
        verdicts: where verdicts go; failures go nowhere.
        on_done: called with the key, the verdict or why there is none, and the server's words for that.

    Raises:
        JudgeError: the server is gone, refuses everything or knows no log-probabilities.
        StoreError: a verdict cannot be written.
    """
    given = useless = 0

    def answered(key: bytes, answer: Answer) -> None:
        nonlocal given, useless
        found = answer.kind if answer.body is None else read_verdict(answer.body)
        if isinstance(found, Verdict):
            given += 1
            verdicts.put(key, found)
        useless += found == "no_logprobs"
        if useless >= _USELESS_AFTER and not given:
            raise JudgeError(
                f"{judge.endpoint.model} at {judge.endpoint.url} answers without log-probabilities; a judge must return "
                "`logprobs` with `top_logprobs` (vLLM does): use such a server"
            )
        on_done(key, found, answer.error or "")  # type: ignore[arg-type]  # "ok" has a body

    asked = ((key, judge.request(messages)) for key, messages in questions)
    await ask_all(judge.endpoint, "/chat/completions", asked, answered)


def read_verdict(body: Mapping[str, Any]) -> Verdict | Reason:
    """Return P(m) / (P(m) + P(M)) from a chat completion, or why it says nothing.

    >>> top = [{"token": "m", "logprob": -0.5}, {"token": "M", "logprob": -0.5 - math.log(3)}]
    >>> round(read_verdict({"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}).first, 9)
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
        return Verdict(1.0 if FIRST in found else 0.0, one_token=True)
    return Verdict(1 / (1 + math.exp(min(second - first, 700.0))))  # exp overflows above 709; by then it is 0


async def _token_id(endpoint: Endpoint, name: str) -> int | None:
    """Return the one token that spells ``name``, if the server can say that and it is one."""
    body = {"model": endpoint.model, "prompt": name, "add_special_tokens": False}
    tokens = ((await fetch(endpoint, f"{endpoint.root}/tokenize", body)).body or {}).get("tokens")
    if isinstance(tokens, list) and len(tokens) == 1 and isinstance(tokens[0], int):
        return tokens[0]
    return None


def _special_tokens(info: Mapping[str, Any]) -> set[str]:
    """Return the special tokens that a ``tokenizer_config.json`` names."""
    found: list[Any] = [value for name, value in info.items() if name.endswith("_token")]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        more = info.get(name) or []
        found += more.values() if isinstance(more, dict) else more if isinstance(more, list) else [more]
    added = info.get("added_tokens_decoder")
    if isinstance(added, dict):
        found += [token for token in added.values() if not isinstance(token, dict) or token.get("special", True)]
    texts = [token.get("content") if isinstance(token, dict) else token for token in found]
    return {text for text in texts if isinstance(text, str)}
