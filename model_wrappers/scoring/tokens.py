"""Encodes contexts and continuations as lm-eval does, but for all requests in a few calls of the tokenizer.

Source: ``TemplateLM.loglikelihood`` and ``_encode_pair`` of lm-eval 0.4.13. Trailing spaces of a context move to the
continuation. The context is encoded alone; let n be the number of its tokens. Context and continuation are then encoded
together, and all tokens after the first n are the continuation. An empty context becomes the prefix token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model_wrappers.scoring.forest import Tokens

__all__ = ["Request", "encode", "encode_texts", "windows"]

_BATCH = 4096


class Request(NamedTuple):
    """One request as tokens.

    Attributes:
        tokens: tokens of context and continuation.
        scored: number of tokens at the end that belong to the continuation.
    """

    tokens: Tokens
    scored: int


def encode(lm: Any, pairs: Sequence[tuple[str, str]]) -> Iterator[Request]:
    """Yield every pair of texts as token ids.

    Args:
        lm: lm-eval's model, for its tokenizer and its conventions.
        pairs: context and continuation.
    """
    for start in range(0, len(pairs), _BATCH):
        moved = [_moved(*pair) for pair in pairs[start : start + _BATCH]]
        contexts = [context for context in dict.fromkeys(c for c, _ in moved) if context]
        alone = dict(zip(contexts, encode_texts(lm, contexts), strict=True))
        whole = _tokens(lm, [context + text for context, text in moved], [bool(context) for context, _ in moved])
        for (context, _), ids in zip(moved, whole, strict=True):
            if context:
                # If tokens merge across the border, lm-eval keeps the context's own tokens in front of the rest of the whole.
                continuation = ids[len(alone[context]) :]
                yield Request(np.array([*alone[context], *continuation], np.int32), len(continuation))
            elif ids and ids[0] == lm.prefix_token_id:
                yield Request(np.array(ids, np.int32), len(ids) - 1)
            else:
                yield Request(np.array([lm.prefix_token_id, *ids], np.int32), len(ids))


def encode_texts(lm: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return whole texts as token ids, equal to ``tok_encode`` for each text.

    Args:
        lm: lm-eval's model.
        texts: texts to encode.
    """
    return _tokens(lm, texts, [True] * len(texts))


def windows(lm: Any, tokens: Sequence[int]) -> list[Request]:
    """Cut a text into windows of one context, so that every token is scored once.

    Source: lm-eval 0.4.13, ``HFLM.loglikelihood_rolling``.

    Args:
        lm: lm-eval's model.
        tokens: tokens of the whole text.
    """
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    found = get_rolling_token_windows(
        token_list=list(tokens), prefix_token=lm.prefix_token_id, max_seq_len=lm.max_length, context_len=1
    )
    return [
        Request(np.array([*context, *continuation], np.int32), len(continuation))
        for context, continuation in map(make_disjoint_window, found)
    ]


def _moved(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _tokens(lm: Any, texts: Sequence[str], with_context: Sequence[bool]) -> list[list[int]]:
    """Return the tokens of every text, with special tokens where lm-eval adds them."""
    from lm_eval.models.utils import has_bos_prefix

    prefix = lm.tokenizer.decode(lm.prefix_token_id)
    usual = lm.add_bos_token
    groups: dict[bool | None, list[int]] = {}
    for i, (text, context) in enumerate(zip(texts, with_context, strict=True)):
        special = False if not context or has_bos_prefix(text, prefix) else usual
        groups.setdefault(special, []).append(i)
    found: list[list[int]] = [[] for _ in texts]
    for special, chosen in groups.items():
        options = {} if special is None else {"add_special_tokens": special}
        for start in range(0, len(chosen), _BATCH):
            part = chosen[start : start + _BATCH]
            encoded = lm.tokenizer([texts[i] for i in part], return_attention_mask=False, **options)["input_ids"]
            for i, ids in zip(part, encoded, strict=True):
                found[i] = ids
    return found
