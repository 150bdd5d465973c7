"""What our models ask when lm-eval asks them: the plan of the requests, the check of a few, and the way back.

Plans (tokens, forest, packing) are kept, so the cells of a study that share tokenizer and tasks tokenise once. A model that is
not on the list of `architectures.proven`, or some of whose requests come out differently on lm-eval's own path, is scored
there; one line of the log says why.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from model_wrappers.architectures.proven import why_not
from model_wrappers.memory import keep_freed_memory
from model_wrappers.scoring.attention import Unproven
from model_wrappers.scoring.score import Plan, budget, score
from model_wrappers.scoring.tokens import encode, encode_texts, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model_wrappers.scoring.tokens import Request

__all__ = ["PrefixScorer", "Scored"]

_log = logging.getLogger(__name__)
Scored = list[tuple[float, bool]]
_BYTES = 10**9  # bytes of plans
_Planned = tuple[Plan, list[tuple[int, int]]]
_plans: OrderedDict[Any, _Planned] = OrderedDict()
_compared: dict[Any, str | None] = {}


class PrefixScorer:
    """Scores requests of one model by their distinct prefixes, or says that it will not.

    Args:
        lm: lm-eval's model: its weights, tokenizer, device, context and conventions.
        plain: lm-eval's own ``_loglikelihood_tokens``, for the comparison.
        before: called with every plan before it is scored; may raise.
    """

    def __init__(self, lm: Any, plain: Callable[[list[Any]], Scored], before: Callable[[Plan], None]) -> None:
        self._lm = lm
        self._plain = plain
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
        return self._score(self._planned(pairs), on_row) if pairs and self.ready else None

    def texts(self, texts: Sequence[str], on_row: Callable[[int], None]) -> list[tuple[float, int]] | None:
        """Return (log-likelihood in nats, number of tokens) of every whole text; None: take the plain path."""
        if not texts or not self.ready:
            return None
        plan, sizes = self._planned_texts(texts)
        found = self._score(plan, on_row)
        if found is None:
            return None
        values = iter(found)
        return [(sum(next(values)[0] for _ in range(parts)), tokens) for parts, tokens in sizes]

    def _score(self, plan: Plan, on_row: Callable[[int], None]) -> Scored | None:
        self._before(plan)
        size = budget(self._lm.model, self._lm.device, self._lm.max_length)
        try:
            if not plan.inputs:
                return []
            if not self._agrees(plan, size):
                return None
            return score(self._lm.model, plan, self._lm.device, size, on_row)
        except Unproven as error:
            self._why = str(error)
            assert not self.ready
            return None

    def _planned(self, pairs: Sequence[tuple[str, str]]) -> Plan:
        """Return the plan of ``pairs``: it depends on the tokenizer and the length of the context, not on weights."""
        return self._kept(pairs, lambda: (Plan(encode(self._lm, pairs), self._lm.max_length), []))[0]

    def _planned_texts(self, texts: Sequence[str]) -> _Planned:
        """Return the plan of whole texts, and of each its windows and tokens in numbers."""

        def make() -> _Planned:
            tokens = encode_texts(self._lm, texts)
            parts = [windows(self._lm, ids) for ids in tokens]
            plan = Plan((w for part in parts for w in part), self._lm.max_length)
            return plan, [(len(part), len(ids)) for part, ids in zip(parts, tokens, strict=True)]

        return self._kept([(text,) for text in texts], make)

    def _kept(self, requests: Sequence[tuple[str, ...]], make: Callable[[], _Planned]) -> _Planned:
        lm = self._lm
        seen = hashlib.sha256()
        for texts in requests:
            seen.update(f"{[len(t) for t in texts]}:{''.join(texts)}".encode("utf-8", "surrogatepass"))
        key = (seen.hexdigest(), _tokenizer_id(lm.tokenizer), lm.max_length, lm.prefix_token_id, lm.add_bos_token)
        if key not in _plans:
            _plans[key] = make()
            while len(_plans) > 1 and sum(plan.bytes for plan, _ in _plans.values()) > _BYTES:
                _plans.popitem(last=False)
        _plans.move_to_end(key)
        return _plans[key]

    def _agrees(self, plan: Plan, size: int) -> bool:
        """Compare some requests with the plain path, once per architecture, configuration, dtype and device."""
        model = self._lm.model
        key = (type(model).__name__, model.config.to_json_string(), str(model.dtype), str(self._lm.device))
        if key not in _compared:
            _compared[key] = self._difference(plan.sample(), size)
        self._why = _compared[key]
        return self.ready

    def _difference(self, sample: list[Request], size: int) -> str | None:
        """Return in words where the two paths disagree by more than rounding; None where they agree."""
        import torch

        model, lm = self._lm.model, self._lm
        ours = score(model, Plan(sample, lm.max_length), lm.device, size)
        before, lm.softmax_dtype = lm.softmax_dtype, torch.float32
        try:
            theirs = self._plain(
                [(None, r.tokens[: -r.scored].tolist(), r.tokens[-r.scored :].tolist()) for r in sample]
            )
        finally:
            lm.softmax_dtype = before
        exact = model.dtype in {torch.float32, torch.float64}
        for (one, _), (other, _), request in zip(ours, theirs, sample, strict=True):
            allowed = 1e-3 + 1e-5 * abs(other) if exact else 0.1 * request.scored + 0.02 * abs(other)
            same = one == other or (math.isnan(one) and math.isnan(other)) or abs(one - other) <= allowed
            if not same:
                return f"a log-likelihood of {other:.4f} came out as {one:.4f} when compared"
        return None


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
