"""Scores lm-eval's requests by prefixes, if that is proven for the model; otherwise lm-eval's own path is used.

Scoring plans (tokens, forest, packed rows) are kept in memory, so cells of a study with one tokenizer and equal tasks tokenise
once. A model is scored by lm-eval's own path if its architecture is not in `architectures.proven`, or if scores or tokens of a
few requests differ from lm-eval's. One line of the log then gives the reason. Tokens are compared for every plan. Scores are
compared once per set of circumstances (`scoring.proofs`).
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from model_wrappers.architectures.proven import why_unproven
from model_wrappers.memory import keep_freed_memory
from model_wrappers.scoring.attention import Unproven
from model_wrappers.scoring.comparison import Scored, compare, differing_tokens, differing_tokens_of_texts, inside_words
from model_wrappers.scoring.proofs import circumstances, recall, remember
from model_wrappers.scoring.score import ScoringPlan, budget, score
from model_wrappers.scoring.tokens import encode, encode_texts, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lm_eval.api.instance import Instance

    from model_wrappers.scoring.tokens import Request

__all__ = ["PrefixScorer", "Scored"]

_log = logging.getLogger(__name__)
_Texts = TypeVar("_Texts", bound=tuple[str, ...])
_BYTES = 10**9  # largest size of all plans that are kept
_plans: OrderedDict[Any, _TokenisedRequests] = OrderedDict()


class _TokenisedRequests(NamedTuple):
    """Requests as tokens.

    Attributes:
        plan: the plan of all requests.
        sizes: (number of windows, number of tokens) of every whole text; empty for pairs.
        inside_words: additional requests for the comparison, split inside a word.
        differing_tokens: a request that lm-eval encodes differently, in words; None if there is none.
    """

    plan: ScoringPlan
    sizes: list[tuple[int, int]]
    inside_words: list[Request]
    differing_tokens: str | None


class PrefixScorer:
    """Scores the requests of one model by distinct prefixes. It returns None if lm-eval's own path must be used.

    Args:
        lm: lm-eval's model, with weights, tokenizer, device, context length and conventions.
        plain: lm-eval's own ``_loglikelihood_tokens``, for the comparison of scores.
        host: lm-eval's own ``loglikelihood``, for the comparison of tokens.
        before: called with every plan before it is scored; may raise.
    """

    def __init__(
        self,
        lm: Any,
        plain: Callable[..., Scored],
        host: Callable[[list[Instance]], Any],
        before: Callable[[ScoringPlan], None],
    ) -> None:
        self._lm = lm
        self._plain = plain
        self._host = host
        self._before = before
        self._why = why_unproven(lm.model)
        if str(lm.device) == "cpu":
            keep_freed_memory()
        self._warned = False

    @property
    def ready(self) -> bool:
        """Whether this model is scored by prefixes. If not, the reason is logged once."""
        if self._why is not None and not self._warned:
            _log.warning("scored on lm-eval's own path: %s", self._why)
            self._warned = True
        return self._why is None

    def pairs(self, pairs: Sequence[tuple[str, str]], on_row: Callable[[int], None]) -> Scored | None:
        """Return (log-likelihood in nats, whether greedy) of every pair; None if lm-eval's own path must be used."""
        return self._score(self._planned(pairs), "pairs", on_row) if pairs and self.ready else None

    def texts(self, texts: Sequence[str], on_row: Callable[[int], None]) -> list[tuple[float, int]] | None:
        """Return (log-likelihood in nats, number of tokens) of every whole text; None if lm-eval's path must be used."""
        if not texts or not self.ready:
            return None
        planned = self._planned_texts(texts)
        found = self._score(planned, "texts", on_row)
        if found is None:
            return None
        values = iter(found)
        return [(sum(next(values)[0] for _ in range(parts)), tokens) for parts, tokens in planned.sizes]

    def _score(self, planned: _TokenisedRequests, asked: str, on_row: Callable[[int], None]) -> Scored | None:
        plan = planned.plan
        self._before(plan)
        size = budget(self._lm.model, self._lm.device, self._lm.max_length)
        try:
            if not plan.inputs:
                return []
            if not self._agrees(planned, asked, size):
                return None
            return score(self._lm.model, plan, self._lm.device, size, on_row)
        except Unproven as error:
            self._why = str(error)
            assert not self.ready
            return None

    def _planned(self, pairs: Sequence[tuple[str, str]]) -> _TokenisedRequests:
        """Return ``pairs`` as tokens. They depend on the tokenizer and the context length, but not on the weights."""

        def make() -> _TokenisedRequests:
            cut = inside_words(_few(pairs))
            made = [request for request in encode(self._lm, cut) if 0 < request.scored <= self._lm.max_length]
            why = differing_tokens(self._lm, self._host, [*_few(pairs), *cut])
            return _TokenisedRequests(ScoringPlan(encode(self._lm, pairs), self._lm.max_length), [], made, why)

        return self._kept(pairs, make)

    def _planned_texts(self, texts: Sequence[str]) -> _TokenisedRequests:
        """Return whole texts as tokens, cut into windows of one context."""

        def make() -> _TokenisedRequests:
            tokens = encode_texts(self._lm, texts)
            parts = [windows(self._lm, ids) for ids in tokens]
            plan = ScoringPlan((w for part in parts for w in part), self._lm.max_length)
            sizes = [(len(part), len(ids)) for part, ids in zip(parts, tokens, strict=True)]
            why = differing_tokens_of_texts(self._lm, [text for (text,) in _few([(text,) for text in texts])])
            return _TokenisedRequests(plan, sizes, [], why)

        return self._kept([(text,) for text in texts], make)

    def _kept(self, requests: Sequence[tuple[str, ...]], make: Callable[[], _TokenisedRequests]) -> _TokenisedRequests:
        lm = self._lm
        seen = hashlib.sha256()
        for texts in requests:
            seen.update(f"{[len(t) for t in texts]}:{''.join(texts)}".encode("utf-8", "surrogatepass"))
        key = (seen.hexdigest(), _tokenizer_id(lm.tokenizer), lm.max_length, lm.prefix_token_id, lm.add_bos_token)
        if key not in _plans:
            _plans[key] = make()
            while len(_plans) > 1 and sum(planned.plan.bytes for planned in _plans.values()) > _BYTES:
                _plans.popitem(last=False)
        _plans.move_to_end(key)
        return _plans[key]

    def _agrees(self, planned: _TokenisedRequests, asked: str, size: int) -> bool:
        """Return whether scores agree with lm-eval's, from an earlier comparison in equal circumstances or from a new one."""
        if planned.differing_tokens is not None:
            self._why = planned.differing_tokens
            return self.ready
        plan = planned.plan
        about = circumstances(self._lm, asked, plan.longest)
        proof = recall(about) if about is not None else None
        if proof is None:
            found = compare(self._lm, self._plain, [*plan.sample(), *planned.inside_words], size)
            if about is not None and found.telling:
                remember(about, found.reason)
            self._why = found.reason
        elif proof.reason is not None:
            self._why = f"{proof.reason} ({proof.made}; `overtrain cache proofs --forget` lets it be compared again)"
        return self.ready


def _few(requests: Sequence[_Texts]) -> list[_Texts]:
    """Return the longest, the shortest and the median request by characters, each with the request after it."""
    order = sorted(range(len(requests)), key=lambda i: sum(map(len, requests[i])))
    chosen = (order[-1], order[0], order[len(order) // 2])
    return [requests[i] for i in dict.fromkeys(i for c in chosen for i in (c, c + 1)) if i < len(requests)]


def _tokenizer_id(tokenizer: Any) -> str:
    """Return a digest of the tokenizer. Tokenizers with equal digests encode texts equally."""
    known = getattr(tokenizer, "_overtrain_id", None)
    if known is None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        about = f"{type(tokenizer).__name__} {getattr(tokenizer, 'add_bos_token', None)} "
        about += backend.to_str() if backend is not None else f"{tokenizer.init_kwargs} {tokenizer.get_vocab()}"
        known = hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()
        tokenizer._overtrain_id = known
    return str(known)
