r"""Turns rendered rows into tokens, with a mask of the targets.

Each segment is tokenised separately, so that a training prompt has the same tokens as a prompt for generation. Tokenised
together, prompt and answer might merge characters across their border, which cannot happen in generation.

Some tokenizers put a space marker in front of every text (SentencePiece vocabularies such as Llama's). They would put one in
front of every segment. So segments after the first are tokenised behind a line break, and its tokens are removed again.

The end-of-sequence token is appended to each target as a token, never as text. The beginning-of-sequence token comes first if
the tokenizer itself adds one. Special tokens in the text of a row stay plain text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from model_wrappers.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from model_wrappers.training.segments import Example

__all__ = ["Tokenised", "TokenisedRow", "tokenise"]

_BATCH = 1024
_ANCHOR = "\n"


@dataclass(frozen=True, slots=True, eq=False)
class TokenisedRow:
    """One row.

    Attributes:
        input_ids: (T,) int32.
        target_mask: (T,) bool, True if the token is a training target; False at position 0.
    """

    input_ids: NDArray[np.int32]
    target_mask: NDArray[np.bool_]

    def cut(self, length: int) -> TokenisedRow:
        """Return a copy of the first ``length`` tokens."""
        return TokenisedRow(self.input_ids[:length].copy(), self.target_mask[:length].copy())


@dataclass(kw_only=True)
class Tokenised:
    """Rows and counts.

    Attributes:
        rows: rows with at least one target, in the given order.
        dropped: reason -> number of rows that were left out.
        truncated: number of ``rows`` that lost tokens at their right end.
        tokens: number of tokens in ``rows``.
        target_tokens: number of targets among these tokens.
    """

    rows: list[TokenisedRow] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    truncated: int = 0
    tokens: int = 0
    target_tokens: int = 0


def tokenise(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int, *, allow_empty: bool = False
) -> Tokenised:
    """Tokenise rendered rows, and cut them on the right to ``max_length`` tokens.

    Args:
        examples: rows from `model_wrappers.training.data.load_examples`.
        tokenizer: the checkpoint's tokenizer; it must have an end-of-sequence token.
        max_length: largest number of tokens in a row, special tokens included.
        allow_empty: return an empty result instead of raising if no row keeps a target; for validation rows.

    Raises:
        ConfigError: ``max_length`` is below 2, or the tokenizer has no end-of-sequence token.
        DataError: no row keeps a target. The message gives the number of rows and the reasons.
    """
    if max_length < 2:
        raise ConfigError(f"train_max_length={max_length}: must be at least 2, one token of context and one target")
    encoder = _Encoder(tokenizer)
    result = Tokenised()
    needed: list[int] = []  # the length at which each dropped row would keep its first target
    for start in range(0, len(examples), _BATCH):
        for ids, mask in encoder.rows(examples[start : start + _BATCH]):
            kept = mask[:max_length]
            if not kept.any():
                reason = "with targets only beyond train_max_length" if mask.any() else "without a target token"
                result.dropped[reason] = result.dropped.get(reason, 0) + 1
                needed += [int(mask.argmax()) + 1] if mask.any() else []
                continue
            result.rows.append(TokenisedRow(ids, mask).cut(max_length))
            result.truncated += len(ids) > max_length
            result.tokens += len(kept)
            result.target_tokens += int(kept.sum())
    if not result.rows and not allow_empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in result.dropped.items()) or "there were none"
        remedy = f"give train_max_length={min(needed)} (keeps one row) or more, or " if needed else ""
        raise DataError(
            f"none of the {len(examples)} rows read keeps a target within train_max_length={max_length} tokens: "
            f"{reasons}; {remedy}check data_format and template"
        )
    return result


class _Encoder:
    """A tokenizer with its special tokens, and its treatment of segments after the first."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end-of-sequence token, which closes every training target; set eos_token in the "
                "checkpoint's tokenizer_config.json (one that its vocabulary holds), or give another tokenizer="
            )
        self.tokenizer = tokenizer
        self.eos = int(tokenizer.eos_token_id)
        first = list(tokenizer("a").input_ids[:1])
        bos = tokenizer.bos_token_id
        self.bos = [int(bos)] if bos is not None and first == [bos] else []
        self.anchor = self._anchor()

    def _anchor(self) -> list[int]:
        """Return the tokens of the line break in front of later segments; empty if the position makes no difference."""
        alone, first, later = self._encode(["a", _ANCHOR, _ANCHOR + "a"], special=False)
        return [] if later == first + alone else first

    def _encode(self, texts: list[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        return list(
            self.tokenizer(
                texts,
                add_special_tokens=False,
                split_special_tokens=not special,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            ).input_ids
        )

    def _later(self, texts: list[str], *, special: bool) -> list[list[int]]:
        if not self.anchor:
            return self._encode(texts, special=special)
        cut = len(self.anchor)
        encoded = self._encode([_ANCHOR + text for text in texts], special=special)
        plain = [i for i, ids in enumerate(encoded) if ids[:cut] != self.anchor]  # the line break merged with the text
        alone = dict(zip(plain, self._encode([texts[i] for i in plain], special=special), strict=True))
        return [alone[i] if i in alone else ids[cut:] for i, ids in enumerate(encoded)]

    def rows(self, examples: Sequence[Example]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """Yield ``input_ids`` and ``target_mask`` of each row, before any cut."""
        pieces = [(n > 0, s) for example in examples for n, s in enumerate(example.segments)]
        encoded: dict[int, list[int]] = {}
        for later in (False, True):
            for special in (False, True):
                places = [i for i, (n, s) in enumerate(pieces) if (n, s.special) == (later, special)]
                encode = self._later if later else self._encode
                found = encode([pieces[i][1].text for i in places], special=special)
                encoded.update(zip(places, found, strict=True))
        place = 0
        for example in examples:
            ids: list[int] = []
            mask: list[bool] = []
            for segment in example.segments:
                piece = encoded[place] + ([self.eos] if segment.target else [])
                ids += piece
                mask += [segment.target] * len(piece)
                place += 1
            if ids[: len(self.bos)] != self.bos:  # a chat template may have written it
                ids, mask = self.bos + ids, [False] * len(self.bos) + mask
            mask[:1] = [False]  # the first token has no context, so it cannot be predicted
            yield np.asarray(ids, dtype=np.int32), np.asarray(mask, dtype=np.bool_)
