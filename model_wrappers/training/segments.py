"""What a rendered row is: pieces of text in order, each a target of the loss or its context."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Example", "Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered row.

    Attributes:
        text: the piece, verbatim.
        target: True where the loss is taken; an end-of-sequence token follows each target when it is tokenised.
        special: True where special tokens spelt out in the text are the template's own (chat templates) and are to be
            read as such; everywhere else text is data, and ``</s>`` in it is four characters.
    """

    text: str
    target: bool
    special: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """A rendered row: contexts and targets in order; the last segment is a target."""

    segments: tuple[Segment, ...]
