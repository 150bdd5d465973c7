"""A rendered row: pieces of text in order. Each piece is either a target of the loss or context."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Example", "Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered row.

    Attributes:
        text: the exact text.
        target: True if the loss counts this text. Tokenising appends an end-of-sequence token to each target.
        special: True if special tokens in the text come from a chat template and become special tokens. Otherwise the text is
            data, and a ``</s>`` in it is just four characters.
    """

    text: str
    target: bool
    special: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """A rendered row: contexts and targets in order; the last segment is a target."""

    segments: tuple[Segment, ...]
