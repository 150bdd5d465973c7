"""A small byte-level BPE tokenizer. With a large vocabulary, most parameters of a tiny model would be its embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

__all__ = ["END_OF_TEXT", "train_tokenizer"]

END_OF_TEXT = "<|endoftext|>"
"""The only special token, id 0. It ends documents, begins sequences and pads batches."""

_SMALLEST = 257


def train_tokenizer(texts: Iterable[str], vocabulary: int = 512, context: int = 64) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer and wrap it for transformers.

    Every byte is in the vocabulary, so any text can be encoded. The result is deterministic, because ties between merges of
    equal count are broken by id.

    Args:
        texts: the sample on which merges are counted.
        vocabulary: number of entries: 256 bytes, one special token, and the merges.
        context: context length of the model in tokens, recorded as the tokenizer's ``model_max_length``.

    Raises:
        ConfigError: ``vocabulary`` is too small for the 256 bytes and the special token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < _SMALLEST:
        raise ConfigError(f"vocabulary={vocabulary}: must be {_SMALLEST} or more (256 bytes and the end of text)")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
