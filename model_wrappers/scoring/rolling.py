"""The rolling log-likelihood of a text, together with the number of its scored tokens."""

from __future__ import annotations

from typing import Self

__all__ = ["RollingLogLikelihood"]


class RollingLogLikelihood(float):
    """A log-likelihood in nats with an attribute ``tokens``, the number of scored tokens.

    lm-eval's rolling tasks get one float per document. They can divide it by bytes or words, but not by tokens, because only
    the LM knows its tokenizer. This class is a float in every use that lm-eval makes of it (sums, JSON, caches, gathering over
    ranks). `overtrain_tasks.perplexity` reads the attribute ``tokens`` if it exists. Copying and pickling keep the attribute;
    arithmetic returns plain floats.

    Args:
        value: sum of the tokens' log-probabilities, in nats.
        tokens: number of scored tokens.

    >>> score = RollingLogLikelihood(-12.5, tokens=4)
    >>> score, score.tokens, score / 2
    (-12.5, 4, -6.25)
    """

    __slots__ = ("tokens",)
    tokens: int

    def __new__(cls, value: float, tokens: int) -> Self:
        """Return a float with a token count.

        Raises:
            ValueError: ``tokens`` is negative.
        """
        if tokens < 0:
            raise ValueError(f"tokens={tokens}: must be 0 or more")
        score = super().__new__(cls, value)
        score.tokens = int(tokens)
        return score

    def __getnewargs__(self) -> tuple[float, int]:  # type: ignore[override]
        return float(self), self.tokens
