"""Scores by prefixes against lm-eval's own, for a few requests of a model: from the strings to the log-likelihoods."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model_wrappers.compat import instance
from model_wrappers.scoring.score import Plan, score
from model_wrappers.scoring.tokens import Request, encode, encode_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lm_eval.api.instance import Instance

__all__ = ["Comparison", "Scored", "compare", "inside_words", "other_tokens", "other_tokens_of_texts"]

Scored = list[tuple[float, bool]]
_END = 300
"""Characters of a request that is made up for the comparison."""


class Comparison(NamedTuple):
    """What a comparison found.

    Attributes:
        reason: where the scores differ by more than rounding, in words; None where they agree.
        telling: whether the outcome says something about other weights of the architecture: all values are finite, and
            what stands in the context changes them.
    """

    reason: str | None
    telling: bool


def inside_words(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the ends of ``pairs``' texts, cut inside a word: there tokens merge over the border of context and continuation.

    >>> inside_words([("It was an interna", "tional day."), ("1 +", " 1")])
    [('It was an inter', 'national day.')]
    """
    found = []
    for context, continuation in pairs:
        text = (context + continuation)[-_END:]
        places = [i for i in range(2, len(text)) if text[i - 2 : i + 1].isalpha()]
        if places:
            place = min(places, key=lambda i: abs(i - len(text) // 2))
            found.append((text[:place], text[place:]))
    return found


def other_tokens(lm: Any, host: Callable[[list[Instance]], Any], pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return in words which of ``pairs`` lm-eval turns into other tokens than `encode` does; None if there is none.

    Args:
        lm: lm-eval's model.
        host: lm-eval's own ``loglikelihood``.
        pairs: context and continuation; left out is what lm-eval cannot encode: a context of spaces alone, a continuation
            without a token.
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


def other_tokens_of_texts(lm: Any, texts: Sequence[str]) -> str | None:
    """Return in words which of ``texts`` lm-eval turns into other tokens than `encode_texts` does; None if there is none."""
    for text, ours in zip(texts, encode_texts(lm, texts), strict=True):
        if list(lm.tok_encode(text)) != list(ours):
            return f"a text that ends in {_end(text)} came out as other tokens than lm-eval's"
    return None


def compare(lm: Any, plain: Callable[..., Scored], requests: Sequence[Request], size: int) -> Comparison:
    """Score ``requests`` both ways.

    Args:
        lm: lm-eval's model.
        plain: lm-eval's own ``_loglikelihood_tokens``.
        requests: as tokens.
        size: tokens per forward pass of scoring by prefixes.
    """
    ours = score(lm.model, Plan(requests, lm.max_length), lm.device, size)
    theirs = _plain(lm, plain, requests)
    exact = str(lm.model.dtype) in {"torch.float32", "torch.float64"}
    for (one, _), (other, _), request in zip(ours, theirs, requests, strict=True):
        alike = one == other or (math.isnan(one) and math.isnan(other))
        if not alike and not abs(one - other) <= _allowed(other, request.scored, exact=exact):
            reason = f"a log-likelihood of {other:.4f} came out as {one:.4f} when compared"
            return Comparison(reason, telling=all(math.isfinite(value) for value, _ in theirs))
    finite = all(math.isfinite(value) for value, _ in ours)
    return Comparison(None, telling=finite and _heeds_context(lm, requests, size, exact=exact))


def _plain(lm: Any, plain: Callable[..., Scored], requests: Sequence[Request]) -> Scored:
    """Score by lm-eval, in fp32 at the end, every request by itself.

    lm-eval's ``logits_cache`` answers requests that share all tokens but the last from one forward pass, and is wrong where
    they split these tokens differently; a sample may hold such requests.
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
    """Return by how many nats two scores of ``scored`` tokens may differ for rounding alone."""
    return 1e-3 + 1e-5 * abs(value) if exact else 0.1 * scored + 0.02 * abs(value)


def _heeds_context(lm: Any, requests: Sequence[Request], size: int, *, exact: bool) -> bool:
    """Return whether the order of what comes before changes the last token's score: else a wrong mask would not show."""
    alone = [Request(r.tokens, 1) for r in requests]
    turned = [Request(np.concatenate([r.tokens[:-1][::-1], r.tokens[-1:]]), 1) for r in requests]
    values = score(lm.model, Plan(chain(alone, turned), lm.max_length), lm.device, size)
    pairs = zip(values[: len(alone)], values[len(alone) :], strict=True)
    return any(abs(one - other) > 3 * _allowed(one, 1, exact=exact) for (one, _), (other, _) in pairs)


def _end(text: str) -> str:
    return repr(text[-40:])
