r"""Rendered rows become tokens with a mask of targets.

Each segment is tokenised on its own, so that the tokens of a training prompt are those that generation will feed: a
tokenizer may merge characters across the border of prompt and answer, a generating model cannot. A tokenizer that puts
a space marker in front of every text it is given (SentencePiece vocabularies such as Llama's) would put one before
every segment; segments after the first are therefore tokenised behind a line break whose tokens are taken off again.

The end-of-sequence token follows each target as a token, never as text. The beginning-of-sequence token comes first if
the tokenizer adds one itself. Special tokens that are spelt out in a row's text stay text.
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
        target_mask: (T,) bool, True where the token is a training target; never at position 0.
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
        rows: rows with at least one target, in the order given.
        dropped: rows left out, by reason.
        truncated: rows of ``rows`` that lost tokens at their right end.
        tokens: tokens in ``rows``.
        target_tokens: targets among them.
    """

    rows: list[TokenisedRow] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    truncated: int = 0
    tokens: int = 0
    target_tokens: int = 0


def tokenise(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int, *, allow_empty: bool = False
) -> Tokenised:
    """Tokenise rendered rows and cut them off on the right at ``max_length`` tokens.

    Args:
        examples: rows as `model_wrappers.training.data.load_examples` gives them.
        tokenizer: the checkpoint's own; must have an end-of-sequence token.
        max_length: largest number of tokens in a row, special tokens included.
        allow_empty: return no rows instead of raising; for a validation part.

    Raises:
        ConfigError: ``max_length`` is below 2, or the tokenizer has no end-of-sequence token.
        DataError: no row keeps a target; says how many were read and why each was dropped.
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
    """A tokenizer with its special tokens, and how it treats a segment that is not the first."""

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
        """Return the tokens of the line break that segments stand behind, or none if the place makes no difference."""
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
        """Yield ``input_ids`` and ``target_mask`` of each row, whole."""
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
            mask[:1] = [False]  # nothing comes before it, so nothing can predict it
            yield np.asarray(ids, dtype=np.int32), np.asarray(mask, dtype=np.bool_)
