"""Verdicts in words. Every number comes from the verdict; nothing here knows what should come out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.demo.curves import Curve
    from overtrain.demo.turning import Verdict

__all__ = ["headline", "label", "sentence", "short"]


def short(tokens: float) -> str:
    """Write a number of tokens briefly.

    >>> [short(n) for n in (20_480, 256_000, 1_024_000, 16_384_000, 3e12)]
    ['20k', '256k', '1M', '16M', '3T']
    """
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if tokens >= size:
            return f"{tokens / size:.0f}{unit}"
    return f"{tokens:.0f}"


def label(curve: Curve) -> str:
    """Name the modification of ``curve`` for a legend."""
    if curve.kind == "base":
        return "base model"
    if curve.kind == "gaussian":
        return f"noise, gamma {curve.strength:g}"
    return f"fine-tuning, learning rate {curve.strength:g}"


def sentence(verdict: Verdict) -> str:
    """Say what the curve does, with the test behind it."""
    return _loss(verdict) if verdict.curve.quantity == "loss" else _sensitivity(verdict)


def headline(verdicts: Sequence[Verdict]) -> str:
    """Sum up the loss curves in one sentence per kind of modification."""
    parts = []
    for kind, what, name in (("gaussian", "noise", "gamma"), ("finetune", "fine-tuning", "learning rate")):
        chosen = [v for v in verdicts if v.curve.kind == kind and v.curve.quantity == "loss"]
        turned = [f"{v.curve.strength:g}" for v in chosen if _turns(v)]
        rising = [f"{v.curve.strength:g}" for v in chosen if v.shape == "rising"]
        if turned:
            parts.append(
                f"after {what}, held-out loss turns at {len(turned)} of {len(chosen)} strengths "
                f"({name} {', '.join(turned)})"
            )
        if rising:
            parts.append(f"after {what}, held-out loss rises from the first budget on at {name} {', '.join(rising)}")
        if not turned and not rising:
            parts.append(
                f"after {what}, no turn is established at any of {len(chosen)} strengths up to "
                f"{short(chosen[0].curve.tokens[-1])} tokens"
            )
    return f"In this one ladder, {'; '.join(parts)}."


def _turns(verdict: Verdict) -> bool:
    return verdict.shape in {"turn", "U"}


def _loss(verdict: Verdict) -> str:
    curve = verdict.curve
    perplexity = [math.exp(mean) for mean in curve.means]
    last = short(curve.tokens[-1])
    ends = f"{perplexity[0]:.1f} at {short(curve.tokens[0])} tokens, {perplexity[-1]:.1f} at {last}"
    name = label(curve)
    name = name[0].upper() + name[1:]
    if verdict.shape == "rising":
        return f"{name}: perplexity rises from the first budget on ({ends}). {_tests(verdict)}"
    if _turns(verdict):
        lowest = min(range(len(perplexity)), key=perplexity.__getitem__)
        both = ", and the fall before it is established too" if verdict.shape == "U" else ""
        return (
            f"{name}: the curve turns{both}. Perplexity is lowest at {short(curve.tokens[lowest])} tokens "
            f"({perplexity[lowest]:.1f}; {ends}), and the minimum lies {_interval(verdict)} (95% confidence). "
            f"{_tests(verdict)}{_caution(verdict)}"
        )
    if verdict.shape == "falling":
        return f"{name}: no turn established up to {last} tokens; perplexity falls ({ends}). {_tests(verdict)}"
    return f"{name}: inconclusive, no turn established up to {last} tokens ({ends}). {_tests(verdict)}"


def _sensitivity(verdict: Verdict) -> str:
    curve = verdict.curve
    unit = "in nats per token" if curve.quantity == "sensitivity" else "in perplexity"
    digits = 3 if curve.quantity == "sensitivity" else 1
    ends = (
        f"from {curve.means[0]:.{digits}f} at {short(curve.tokens[0])} to {curve.means[-1]:.{digits}f} at "
        f"{short(curve.tokens[-1])} tokens"
    )
    grows, shrinks = verdict.rise > verdict.critical, verdict.fall > verdict.critical
    what = {
        (True, False): "grows",
        (False, True): "shrinks",
        (True, True): "shrinks over one part of the ladder and grows over another",
        (False, False): "shows no established trend",
    }[grows, shrinks]
    return f"Sensitivity to {label(curve)}, {unit}: {what}, {ends}. {_tests(verdict)}"


def _tests(verdict: Verdict) -> str:
    rise, fall = max(verdict.rise, 0.0), max(verdict.fall, 0.0)
    return f"Largest rise T = {rise:.1f}, largest fall T = {fall:.1f}, critical value {verdict.critical:.1f}."


def _caution(verdict: Verdict) -> str:
    if not verdict.last_alone:
        return ""
    return " The rise rests on the last checkpoint alone: without it none is established."


def _interval(verdict: Verdict) -> str:
    before, after = verdict.minimum
    if before is None:
        return f"before {short(after)} tokens" if after is not None else "anywhere on the ladder"
    if after is None:
        return f"after {short(before)} tokens"
    return f"between {short(before)} and {short(after)} tokens"
