"""The model argument that chooses how log-likelihoods are computed."""

from __future__ import annotations

from typing import Any, Literal

from model_wrappers.coerce import coerce

__all__ = ["NAME", "Scoring", "take_scoring"]

NAME = "scoring"
Scoring = Literal["prefixes", "plain"]


def take_scoring(arguments: dict[str, Any]) -> Scoring:
    """Remove ``scoring`` from ``arguments`` and return it: ``prefixes`` (the default), or ``plain`` for lm-eval's own path.

    >>> take_scoring({}), take_scoring({"scoring": "plain"})
    ('prefixes', 'plain')

    Raises:
        ConfigError: it has another value.
    """
    found: Scoring = coerce(NAME, arguments.pop(NAME, "prefixes"), Scoring)
    return found
