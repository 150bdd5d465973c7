"""The model argument that says how log-likelihoods are computed."""

from __future__ import annotations

from typing import Any, Literal

from model_wrappers.coerce import coerce

__all__ = ["NAME", "Scoring", "take_scoring"]

NAME = "scoring"
Scoring = Literal["prefixes", "plain"]


def take_scoring(arguments: dict[str, Any]) -> Scoring:
    """Take ``scoring`` out of ``arguments``: ``prefixes`` (default: every distinct token once) or lm-eval's own ``plain`` way.

    >>> take_scoring({}), take_scoring({"scoring": "plain"})
    ('prefixes', 'plain')

    Raises:
        ConfigError: it is something else.
    """
    found: Scoring = coerce(NAME, arguments.pop(NAME, "prefixes"), Scoring)
    return found
