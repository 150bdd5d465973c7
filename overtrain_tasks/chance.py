"""How often guessing is right, benchmark by benchmark: what counts of right and wrong answers are corrected by."""

from __future__ import annotations

__all__ = ["chance"]

_CHOICES = {
    "arc_challenge": 4,
    "arc_easy": 4,
    "boolq": 2,
    "copa": 2,
    "hellaswag": 4,
    "mmlu": 4,
    "openbookqa": 4,
    "piqa": 2,
    "sciq": 4,
    "social_iqa": 3,
    "winogrande": 2,
}
"""Answers to choose from. A few of ARC's questions have three or five."""
_FREE = frozenset({"lambada_openai", "lambada_standard"})
"""Benchmarks without choices: no guess is right."""


def chance(task: str) -> float | None:
    """Return the share of right answers by guessing; None for a task that is not known here.

    >>> chance("overtrain_piqa"), chance("piqa"), chance("lambada_openai"), chance("my_task")
    (0.5, 0.5, 0.0, None)
    """
    name = task.removeprefix("overtrain_")
    if name in _FREE:
        return 0.0
    return 1 / _CHOICES[name] if name in _CHOICES else None
