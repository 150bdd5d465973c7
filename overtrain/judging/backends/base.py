"""The protocol of judge backends: a backend asks a judge which of two answers is better, and says how sure the judge is.

One contract test (``tests/overtrain/judging/backends/test_contract.py``) runs over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from model_wrappers.serving.client import check, fetch
from overtrain.judging.preferences import preference_key
from overtrain.judging.prompt import FIRST, SECOND, SpecialTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from model_wrappers.serving.client import Endpoint
    from overtrain.judging.preferences import Preference
    from overtrain.judging.prompt import JudgeTemplate

    OnReply = Callable[[bytes, "Preference | Reason", str], None]
    """Takes the question's key, the preference or why there is none, and the server's words for that."""

__all__ = [
    "GIVE_UP_AFTER",
    "REASONS",
    "Backend",
    "BackendName",
    "BackendRecord",
    "JudgeServer",
    "Messages",
    "Question",
    "Reason",
    "reach",
]

BackendName = Literal["logprobs", "sampled"]

Messages = list[dict[str, str]]
"""A chat: role and content of each message."""

Reason = Literal["context", "refused", "failed", "no_logprobs", "neither_token", "unreadable"]

REASONS: dict[Reason, str] = {
    "context": "longer than the judge's context",
    "refused": "refused by the server",
    "failed": "no answer after all retries",
    "no_logprobs": "an answer without log-probabilities",
    "neither_token": f"neither {FIRST} nor {SECOND} among the log-probabilities",
    "unreadable": f"no sample that says {FIRST} or {SECOND}",
}
"""Why a question can be left without a preference."""

GIVE_UP_AFTER = 32
"""Answers that a backend cannot read, without a single readable one, after which it stops asking."""


class Question(NamedTuple):
    """One pair of answers in one order, as the judge reads it, and what its preference is stored under."""

    key: bytes
    messages: Messages


@dataclass(frozen=True)
class JudgeServer:
    """The server of the judge, and the prompt.

    Attributes:
        endpoint: the server and the model.
        template: of the prompt.
        special: breaks what the judge's tokenizer would take for a special token.
    """

    endpoint: Endpoint
    template: JudgeTemplate
    special: SpecialTokens

    def key(self, asked: Mapping[str, Any]) -> bytes:
        """Return the key of a preference: the digest of the template and of everything in ``asked``."""
        return preference_key({"template": self.template.sha256} | dict(asked))


@dataclass(frozen=True)
class BackendRecord:
    """How the judge was asked.

    Attributes:
        backend: name of the backend.
        samples: per question, where answers are sampled.
        both_tokens: whether both answers' tokens were asked for by their ids, where log-probabilities are read.
    """

    backend: BackendName
    samples: int | None = None
    both_tokens: bool | None = None


class Backend(Protocol):
    """Asks a judge. The preference is the probability that the judge prefers the answer that is shown first."""

    @property
    def server(self) -> JudgeServer:
        """The judge that is asked."""
        ...

    def key(self, messages: Messages) -> bytes:
        """Return the key under which the preference is stored.

        Two questions have one key only if model, prompt, messages, backend and number of samples are the same.
        """
        ...

    def describe(self) -> BackendRecord:
        """Return the description of the backend for ``scores.json``."""
        ...

    async def ask(self, questions: Iterable[Question], on_reply: OnReply) -> None:
        """Ask every question and hand over every reply as it comes.

        Args:
            questions: pulled as the judge becomes free.
            on_reply: called once per question.

        Raises:
            ServerError: the server is gone, or refuses everything. What it has answered has been handed over.
            JudgeError: the judge answers in a form that this backend cannot read.
        """
        ...


async def reach(endpoint: Endpoint, template: JudgeTemplate) -> JudgeServer:
    """See that the server is up, and learn the special tokens of its tokenizer where it tells them.

    Raises:
        ServerError: the server is not up, or does not have the model.
    """
    await check(endpoint)
    info = await fetch(endpoint, f"{endpoint.root}/tokenizer_info")
    return JudgeServer(endpoint, template, SpecialTokens(_special_tokens(info.body or {})))


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
