"""What our models ask when lm-eval asks them: the plan of the requests, the check of a few, and the way back.

Plans (tokens, forest, packing) are kept, so the cells of a study that share tokenizer and tasks tokenise once. A model that is
not on the list of `architectures.proven`, or some of whose requests come out differently on lm-eval's own path, is scored
there; one line of the log says why. That requests become lm-eval's tokens is looked at for every plan; that tokens get
lm-eval's scores, once under the same circumstances (`scoring.proofs`).
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from model_wrappers.architectures.proven import why_not
from model_wrappers.memory import keep_freed_memory
from model_wrappers.scoring.attention import Unproven
from model_wrappers.scoring.comparison import Scored, compare, inside_words, other_tokens, other_tokens_of_texts
from model_wrappers.scoring.proofs import circumstances, recall, remember
from model_wrappers.scoring.score import Plan, budget, score
from model_wrappers.scoring.tokens import encode, encode_texts, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lm_eval.api.instance import Instance

    from model_wrappers.scoring.tokens import Request

__all__ = ["PrefixScorer", "Scored"]

_log = logging.getLogger(__name__)
_Texts = TypeVar("_Texts", bound=tuple[str, ...])
_BYTES = 10**9  # bytes of plans
_plans: OrderedDict[Any, _Planned] = OrderedDict()


class _Planned(NamedTuple):
    """A plan, and what else is known of its requests once they are tokens.

    Attributes:
        plan: of all requests.
        sizes: of every whole text, its windows and its tokens in numbers; empty where texts were not asked.
        inside_words: further requests for the comparison, cut inside a word.
        other_tokens: where lm-eval encodes a request differently, in words; None where it does not.
    """

    plan: Plan
    sizes: list[tuple[int, int]]
    inside_words: list[Request]
    other_tokens: str | None


class PrefixScorer:
    """Scores requests of one model by their distinct prefixes, or says that it will not.

    Args:
        lm: lm-eval's model: its weights, tokenizer, device, context and conventions.
        plain: lm-eval's own ``_loglikelihood_tokens``, for the comparison.
        host: lm-eval's own ``loglikelihood``, for the comparison of tokens.
        before: called with every plan before it is scored; may raise.
    """

    def __init__(
        self,
        lm: Any,
        plain: Callable[..., Scored],
        host: Callable[[list[Instance]], Any],
        before: Callable[[Plan], None],
    ) -> None:
        self._lm = lm
        self._plain = plain
        self._host = host
        self._before = before
        self._why = why_not(lm.model)
        if str(lm.device) == "cpu":
            keep_freed_memory()
        self._told = False

    @property
    def ready(self) -> bool:
        """Whether it scores this model; if not, the log has said why."""
        if self._why is not None and not self._told:
            _log.warning("scored on lm-eval's own path: %s", self._why)
            self._told = True
        return self._why is None

    def pairs(self, pairs: Sequence[tuple[str, str]], on_row: Callable[[int], None]) -> Scored | None:
        """Return (log-likelihood in nats, whether greedy) of every context and continuation; None: take the plain path."""
        return self._score(self._planned(pairs), "pairs", on_row) if pairs and self.ready else None

    def texts(self, texts: Sequence[str], on_row: Callable[[int], None]) -> list[tuple[float, int]] | None:
        """Return (log-likelihood in nats, number of tokens) of every whole text; None: take the plain path."""
        if not texts or not self.ready:
            return None
        planned = self._planned_texts(texts)
        found = self._score(planned, "texts", on_row)
        if found is None:
            return None
        values = iter(found)
        return [(sum(next(values)[0] for _ in range(parts)), tokens) for parts, tokens in planned.sizes]

    def _score(self, planned: _Planned, asked: str, on_row: Callable[[int], None]) -> Scored | None:
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

    def _planned(self, pairs: Sequence[tuple[str, str]]) -> _Planned:
        """Return the plan of ``pairs``: it depends on the tokenizer and the length of the context, not on weights."""

        def make() -> _Planned:
            cut = inside_words(_few(pairs))
            made = [request for request in encode(self._lm, cut) if 0 < request.scored <= self._lm.max_length]
            why = other_tokens(self._lm, self._host, [*_few(pairs), *cut])
            return _Planned(Plan(encode(self._lm, pairs), self._lm.max_length), [], made, why)

        return self._kept(pairs, make)

    def _planned_texts(self, texts: Sequence[str]) -> _Planned:
        """Return the plan of whole texts, and of each its windows and tokens in numbers."""

        def make() -> _Planned:
            tokens = encode_texts(self._lm, texts)
            parts = [windows(self._lm, ids) for ids in tokens]
            plan = Plan((w for part in parts for w in part), self._lm.max_length)
            sizes = [(len(part), len(ids)) for part, ids in zip(parts, tokens, strict=True)]
            why = other_tokens_of_texts(self._lm, [text for (text,) in _few([(text,) for text in texts])])
            return _Planned(plan, sizes, [], why)

        return self._kept([(text,) for text in texts], make)

    def _kept(self, requests: Sequence[tuple[str, ...]], make: Callable[[], _Planned]) -> _Planned:
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

    def _agrees(self, planned: _Planned, asked: str, size: int) -> bool:
        """Compare some requests with the plain path, unless that was done before under the same circumstances."""
        if planned.other_tokens is not None:
            self._why = planned.other_tokens
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
    """Return the longest, the shortest and the median of ``requests``, in characters, each with its successor."""
    order = sorted(range(len(requests)), key=lambda i: sum(map(len, requests[i])))
    chosen = (order[-1], order[0], order[len(order) // 2])
    return [requests[i] for i in dict.fromkeys(i for c in chosen for i in (c, c + 1)) if i < len(requests)]


def _tokenizer_id(tokenizer: Any) -> str:
    """Return what two tokenizers share only if they encode alike."""
    known = getattr(tokenizer, "_overtrain_id", None)
    if known is None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        about = f"{type(tokenizer).__name__} {getattr(tokenizer, 'add_bos_token', None)} "
        about += backend.to_str() if backend is not None else f"{tokenizer.init_kwargs} {tokenizer.get_vocab()}"
        known = hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()
        tokenizer._overtrain_id = known
    return str(known)
