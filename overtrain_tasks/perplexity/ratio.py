"""Ratio estimates over documents, and their standard errors.

The nats per token of a corpus are a ratio of two sums over documents. They are not a mean of per-document ratios, so long
documents count more. Documents are independent, but the tokens of one document are not. So the standard error is that of a
ratio estimator over documents (clusters). With nats y_i, units x_i and R = sum y / sum x,

    se(R)^2 = n / (n - 1) * sum (y_i - R x_i)^2 / (sum x)^2.

Units are tokens or UTF-8 bytes. Log-likelihoods are averaged, never perplexities. The standard error of exp(R) is
exp(R) se(R) (delta method).

Source: Cochran, Sampling Techniques (1977), chapter 6 (ratio estimates) and 9A (clusters of unequal size).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "bits_per_byte",
    "bits_per_byte_stderr",
    "nll_per_unit",
    "nll_per_unit_stderr",
    "perplexity",
    "perplexity_stderr",
]

_NOT_AVAILABLE: Literal["N/A"] = "N/A"  # lm-eval's own text for a missing standard error


def nll_per_unit(items: Sequence[tuple[float, int]]) -> float:
    """Return nats per unit, -sum(log-likelihood) / sum(units).

    Args:
        items: (log-likelihood in nats, units) of each document.
    """
    return -math.fsum(loglikelihood for loglikelihood, _ in items) / sum(units for _, units in items)


def nll_per_unit_stderr(items: Sequence[tuple[float, int]]) -> float | Literal["N/A"]:
    """Return the standard error of `nll_per_unit`, or lm-eval's ``"N/A"`` for a single document."""
    n = len(items)
    if n < 2:
        return _NOT_AVAILABLE
    ratio = nll_per_unit(items)
    squares = math.fsum((-loglikelihood - ratio * units) ** 2 for loglikelihood, units in items)
    return math.sqrt(n / (n - 1) * squares) / sum(units for _, units in items)


def bits_per_byte(items: Sequence[tuple[float, int]]) -> float:
    """Return bits per byte: `nll_per_unit` / ln 2, where units are UTF-8 bytes."""
    return nll_per_unit(items) / math.log(2)


def bits_per_byte_stderr(items: Sequence[tuple[float, int]]) -> float | Literal["N/A"]:
    """Return the standard error of `bits_per_byte`."""
    stderr = nll_per_unit_stderr(items)
    return stderr if stderr == _NOT_AVAILABLE else stderr / math.log(2)


def perplexity(items: Sequence[tuple[float, int]]) -> float:
    """Return exp(`nll_per_unit`), or infinity if it is too large for a float, which happens for badly damaged models."""
    try:
        return math.exp(nll_per_unit(items))
    except OverflowError:
        return math.inf


def perplexity_stderr(items: Sequence[tuple[float, int]]) -> float | Literal["N/A"]:
    """Return the standard error of `perplexity`."""
    stderr = nll_per_unit_stderr(items)
    return stderr if stderr == _NOT_AVAILABLE else perplexity(items) * stderr
