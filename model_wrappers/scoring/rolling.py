"""The rolling log-likelihood of a text, together with the number of tokens that it sums over."""

from __future__ import annotations

from typing import Self

__all__ = ["RollingLogLikelihood"]


class RollingLogLikelihood(float):
    """A log-likelihood in nats that also knows how many tokens it is the sum of.

    lm-eval's rolling tasks see one float per document, so they can divide by bytes or words but not by tokens, and only
    the LM knows its tokenizer. This is that float, for every purpose lm-eval has for it (sums, JSON, caches, gathering
    over ranks), with ``tokens`` beside it; `overtrain_tasks.perplexity` reads the attribute where there is one. It
    survives copying and pickling; arithmetic returns plain floats.

    Args:
        value: sum of the tokens' log-probabilities, nats.
        tokens: how many tokens were scored.

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
