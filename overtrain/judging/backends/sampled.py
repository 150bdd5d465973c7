"""A judge that returns no log-probabilities: its answer is sampled several times per question and order.

The preference is the share of samples that name the answer shown first, among the samples that name one of the two answers.
At temperature 1 a sample names the first answer with probability P(m) / (P(m) + P(M)) given that it names one, so the plain
share is an unbiased estimate of what the backend with log-probabilities reads, whatever the number of samples. Laplace
smoothing, (k + 1) / (n + 2), would pull every win rate towards 50% by n / (n + 2), and averaging over instructions would not
remove that.

Samples add noise to every win rate. The standard error over instructions contains that noise without a further term,
because it is computed from the spread of the sampled preferences, which are drawn independently for every instruction. More
samples make it smaller, down to the error that the backend with log-probabilities has.

Deviation: alpaca_eval has no such evaluator. Its evaluators without log-probabilities take one greedy answer per pair.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import JudgeError
from model_wrappers.serving.client import ask_all, fetch
from overtrain.judging.backends.base import GIVE_UP_AFTER, BackendRecord
from overtrain.judging.preferences import Preference
from overtrain.judging.prompt import FIRST, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from model_wrappers.serving.client import Reply
    from overtrain.judging.backends.base import JudgeServer, Messages, OnReply, Question

__all__ = ["DEFAULT_SAMPLES", "SampledBackend", "prepare", "read_samples"]

DEFAULT_SAMPLES = 8
"""Per question and order. With 805 instructions, two orders and a judge that is unsure of everything, sampling then adds
at most 100 * sqrt(0.25 / (2 * 8 * 805)) = 0.44 percentage points of standard deviation to a win rate."""

_PARAMETERS: dict[str, Any] = {"max_tokens": 5, "temperature": 1, "top_p": 1.0}
_DECORATION = " \t\r\n\"'`*.()[]{}:"


@dataclass(frozen=True)
class SampledBackend:
    """Counts what the judge answers when it is asked several times.

    Attributes:
        server: the judge that is asked.
        samples: per question and order.
        at_once: whether the server returns several samples for one request.
    """

    server: JudgeServer
    samples: int
    at_once: bool = True

    def request(self, messages: Messages, samples: int) -> dict[str, Any]:
        """Return the body of one request for ``samples`` samples, or for one if the server returns no more at once."""
        number = samples if self.at_once else 1
        more = {"n": number} if number > 1 else {}
        return {"model": self.server.endpoint.model, "messages": messages} | _PARAMETERS | more

    def key(self, messages: Messages) -> bytes:
        """Return the digest of the template, the messages, the parameters and the number of samples."""
        asked = {
            "backend": "sampled",
            "samples": self.samples,
            "model": self.server.endpoint.model,
            "messages": messages,
        }
        return self.server.key(asked | _PARAMETERS)

    def describe(self) -> BackendRecord:
        """Return the backend's name and the number of samples."""
        return BackendRecord("sampled", samples=self.samples)

    async def ask(self, questions: Iterable[Question], on_reply: OnReply) -> None:
        """Ask every question until all its samples have come; see `Backend.ask`.

        A server may return fewer samples than it was asked for. The rest is asked for in further requests, before any new
        question, so that few questions are half answered at a time.
        """
        sampling = _Sampling(self, iter(questions), on_reply)
        while sampling.unfinished or sampling.fresh_left:
            await ask_all(self.server.endpoint, "/chat/completions", sampling.requests(), sampling.answered)


class _Sampling:
    """The state of one `SampledBackend.ask`."""

    def __init__(self, backend: SampledBackend, fresh: Iterator[Question], on_reply: OnReply) -> None:
        self._backend, self._fresh, self._on_reply = backend, fresh, on_reply
        self._readable = self._unreadable = 0  # questions
        self.fresh_left = True
        self.unfinished: deque[_Tally] = deque()

    def requests(self) -> Iterator[tuple[_Tally, Mapping[str, Any]]]:
        """Yield requests until no sample is missing. More may be needed later, if a server returns too few samples."""
        while True:
            if self.unfinished:
                tally = self.unfinished.popleft()
            elif (question := next(self._fresh, None)) is not None:
                tally = _Tally(question)
            else:
                self.fresh_left = False
                return
            yield tally, self._backend.request(tally.question.messages, self._backend.samples - tally.count)

    def answered(self, tally: _Tally, answer: Reply) -> None:
        """Count the samples of one reply; hand over the preference when all samples of its question have arrived."""
        if answer.body is None:
            self._on_reply(tally.question.key, answer.kind, answer.error or "")  # type: ignore[arg-type]  # "ok" has a body
            return
        texts = read_samples(answer.body)
        if not texts:
            self._on_reply(tally.question.key, "failed", "an answer without choices")
            return
        tally.add(texts[: self._backend.samples - tally.count])
        if tally.count < self._backend.samples:
            self.unfinished.append(tally)
        elif tally.readable:
            self._readable += 1
            self._on_reply(tally.question.key, Preference(tally.first / tally.readable, samples=tally.readable), "")
        else:
            self._unreadable += 1
            self._give_up_if_hopeless(texts[0])
            self._on_reply(tally.question.key, "unreadable", f"for example {texts[0][:80]!r}")

    def _give_up_if_hopeless(self, text: str) -> None:
        if self._unreadable >= GIVE_UP_AFTER and not self._readable:
            endpoint = self._backend.server.endpoint
            raise JudgeError(
                f"{endpoint.model} at {endpoint.url} names neither {FIRST} nor {SECOND}; it says, for example, "
                f"{text[:80]!r}; use a judge that follows the prompt (`overtrain judge --print-template` names its file)"
            )


@dataclass
class _Tally:
    """The samples of one question so far: how many, how many name an answer, and how many name the first one."""

    question: Question
    count: int = 0
    readable: int = 0
    first: int = 0

    def add(self, texts: list[str]) -> None:
        """Count further samples."""
        named = [name for text in texts if (name := text.strip(_DECORATION)) in {FIRST, SECOND}]
        self.count += len(texts)
        self.readable += len(named)
        self.first += named.count(FIRST)


def read_samples(body: Mapping[str, Any]) -> list[str]:
    """Return the texts of a chat completion's choices; a choice without text is an empty one.

    >>> read_samples({"choices": [{"message": {"content": "m"}}, {"message": {"content": None}}]})
    ['m', '']
    >>> read_samples({"error": "?"})
    []
    """
    choices = body.get("choices")
    found = []
    for choice in choices if isinstance(choices, list) else []:
        message = choice.get("message") if isinstance(choice, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        found.append(content if isinstance(content, str) else "")
    return found


async def prepare(server: JudgeServer, samples: int) -> SampledBackend:
    """Return the backend; one short request tells whether the server returns several samples at once."""
    messages = [{"role": "user", "content": f"Answer with the letter {FIRST}."}]
    backend = SampledBackend(server, samples)
    if samples == 1:
        return backend
    trial = await fetch(
        server.endpoint, f"{server.endpoint.url}/chat/completions", backend.request(messages, samples=2)
    )
    return SampledBackend(server, samples, at_once=len(read_samples(trial.body or {})) == 2)
