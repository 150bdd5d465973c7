"""Compares scoring by prefixes with lm-eval's own path for a few requests: the tokens of texts, and the log-likelihoods."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model_wrappers.compat import instance
from model_wrappers.scoring.score import ScoringPlan, score
from model_wrappers.scoring.tokens import Request, encode, encode_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lm_eval.api.instance import Instance

__all__ = ["Comparison", "Scored", "compare", "differing_tokens", "differing_tokens_of_texts", "inside_words"]

Scored = list[tuple[float, bool]]
_END = 300
"""Characters of each additional request that is made for the comparison."""


class Comparison(NamedTuple):
    """The outcome of a comparison.

    Attributes:
        reason: the difference in words, if scores differ by more than rounding errors; None if they agree.
        telling: whether the outcome is valid for other weights of the architecture: all values are finite, and the context
            changes them.
    """

    reason: str | None
    telling: bool


def inside_words(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the last part of each text, split inside a word, where tokens may merge across context and continuation.

    >>> inside_words([("It was an interna", "tional day."), ("1 +", " 1")])
    [('It was an inte', 'rnational day.')]
    """
    found = []
    for context, continuation in pairs:
        text = (context + continuation)[-_END:]
        places = [i for i in range(2, len(text)) if text[i - 2 : i + 1].isalpha()]
        if places:
            place = min(places, key=lambda i: abs(i - len(text) // 2))
            found.append((text[:place], text[place:]))
    return found


def differing_tokens(lm: Any, host: Callable[[list[Instance]], Any], pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return, in words, the first of ``pairs`` whose tokens differ between lm-eval and `encode`; None if all are equal.

    Args:
        lm: lm-eval's model.
        host: lm-eval's own ``loglikelihood``.
        pairs: context and continuation. Pairs that lm-eval cannot encode are skipped: a context of spaces only, or a
            continuation without tokens.
    """
    can = [pair for pair in pairs if not pair[0] or pair[0].strip()]
    ours = [(pair, request) for pair, request in zip(can, encode(lm, can), strict=True) if request.scored > 0]
    theirs: list[tuple[list[int], int]] = []

    def take(requests: list[Any], **_: Any) -> Scored:
        theirs.extend(([*context, *continuation], len(continuation)) for _, context, continuation in requests)
        return [(0.0, False)] * len(requests)

    lm._loglikelihood_tokens = (
        take  # hides the method: lm-eval's own function encodes and hands over, nothing is scored
    )
    try:
        host([instance("loglikelihood", pair, task="", document=i) for i, pair in enumerate(pair for pair, _ in ours)])
    finally:
        del lm._loglikelihood_tokens
    for (pair, request), (tokens, scored) in zip(ours, theirs, strict=True):
        if request.scored != scored or request.tokens.tolist() != tokens:
            return f"{_end(pair[0])} + {pair[1][:40]!r} came out as other tokens than lm-eval's"
    return None


def differing_tokens_of_texts(lm: Any, texts: Sequence[str]) -> str | None:
    """Return, in words, the first of ``texts`` whose tokens differ between lm-eval and `encode_texts`; None if none does."""
    for text, ours in zip(texts, encode_texts(lm, texts), strict=True):
        if list(lm.tok_encode(text)) != list(ours):
            return f"a text that ends in {_end(text)} came out as other tokens than lm-eval's"
    return None


def compare(lm: Any, plain: Callable[..., Scored], requests: Sequence[Request], size: int) -> Comparison:
    """Score ``requests`` by prefixes and with lm-eval's own path, and compare the log-likelihoods.

    Args:
        lm: lm-eval's model.
        plain: lm-eval's own ``_loglikelihood_tokens``.
        requests: as tokens.
        size: tokens per forward pass of scoring by prefixes.
    """
    ours = score(lm.model, ScoringPlan(requests, lm.max_length), lm.device, size)
    theirs = _plain(lm, plain, requests)
    exact = str(lm.model.dtype) in {"torch.float32", "torch.float64"}
    for (one, _), (other, _), request in zip(ours, theirs, requests, strict=True):
        alike = one == other or (math.isnan(one) and math.isnan(other))
        if not alike and not abs(one - other) <= _allowed(other, request.scored, exact=exact):
            reason = f"a log-likelihood of {other:.4f} came out as {one:.4f} when compared"
            return Comparison(reason, telling=all(math.isfinite(value) for value, _ in theirs))
    finite = all(math.isfinite(value) for value, _ in ours)
    return Comparison(None, telling=finite and _context_matters(lm, requests, size, exact=exact))


def _plain(lm: Any, plain: Callable[..., Scored], requests: Sequence[Request]) -> Scored:
    """Score with lm-eval, one request per batch, with the softmax in fp32.

    lm-eval's ``logits_cache`` is switched off. It uses one forward pass for requests that share all tokens except the last, and
    is wrong if these requests split their tokens differently. A sample may contain such requests.
    """
    import torch

    before = lm.softmax_dtype, lm.logits_cache
    lm.softmax_dtype, lm.logits_cache = torch.float32, False
    try:
        asked = [(None, r.tokens[: -r.scored].tolist(), r.tokens[-r.scored :].tolist()) for r in requests]
        return plain(asked, disable_tqdm=True, override_bs=1)
    finally:
        lm.softmax_dtype, lm.logits_cache = before


def _allowed(value: float, scored: int, *, exact: bool) -> float:
    """Return by how many nats two scores of ``scored`` tokens may differ because of rounding."""
    return 1e-3 + 1e-5 * abs(value) if exact else 0.1 * scored + 0.02 * abs(value)


def _context_matters(lm: Any, requests: Sequence[Request], size: int, *, exact: bool) -> bool:
    """Return whether reversing the context changes the last token's score. If not, a wrong mask would not be noticed."""
    alone = [Request(r.tokens, 1) for r in requests]
    reversed_contexts = [Request(np.concatenate([r.tokens[:-1][::-1], r.tokens[-1:]]), 1) for r in requests]
    values = score(lm.model, ScoringPlan(chain(alone, reversed_contexts), lm.max_length), lm.device, size)
    pairs = zip(values[: len(alone)], values[len(alone) :], strict=True)
    return any(abs(one - other) > 3 * _allowed(one, 1, exact=exact) for (one, _), (other, _) in pairs)


def _end(text: str) -> str:
    return repr(text[-40:])
