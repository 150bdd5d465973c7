"""Prompt parts that a template cannot express, for the YAMLs of this folder.

Each returns, character for character, what lm-eval's task of the same name builds from the row (compared by the tests).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "copa_choices",
    "copa_target",
    "copa_text",
    "hellaswag_choices",
    "hellaswag_text",
    "winogrande_contexts",
    "winogrande_continuation",
    "winogrande_index",
]

_CONNECTORS = {"cause": "because", "effect": "therefore"}
_BRACKETS = re.compile(r"\[.*?\]")


def hellaswag_text(doc: Mapping[str, Any]) -> str:
    """Activity label and context, cleaned of WikiHow's markup."""
    return _clean(f"{doc['activity_label']}: {doc['ctx_a']} {doc['ctx_b'].capitalize()}")


def hellaswag_choices(doc: Mapping[str, Any]) -> list[str]:
    """The four endings, cleaned of WikiHow's markup."""
    return [_clean(ending) for ending in doc["endings"]]


def winogrande_index(doc: Mapping[str, Any]) -> int:
    """Index of the option that belongs into the blank; an int tells lm-eval that the choices are contexts."""
    return ("1", "2").index(doc["answer"])


def winogrande_contexts(doc: Mapping[str, Any]) -> list[str]:
    """The sentence up to the blank, closed with either option."""
    before = doc["sentence"].partition("_")[0]
    return [before + doc["option1"], before + doc["option2"]]


def winogrande_continuation(doc: Mapping[str, Any]) -> str:
    """The sentence after the blank: what is scored, given either context."""
    before, blank, after = doc["sentence"].partition("_")
    if not blank:
        raise ValueError(f"no blank '_' in {before!r}")
    return after.strip()


def copa_text(doc: Mapping[str, Any]) -> str:
    """The premise without its full stop, and the connector of a cause or an effect."""
    return f"{doc['premise'].strip()[:-1]} {_CONNECTORS[doc['question']]}"


def copa_choices(doc: Mapping[str, Any]) -> list[str]:
    """Both alternatives, in lower case at the start; with lm-eval's delimiter two spaces precede them, as upstream."""
    return [" " + choice[0].lower() + choice[1:] for choice in (doc["choice1"], doc["choice2"])]


def copa_target(doc: Mapping[str, Any]) -> str:
    """The correct alternative as `copa_choices` spells it."""
    return copa_choices(doc)[(0, 1).index(doc["label"])]


def _clean(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return _BRACKETS.sub("", text).replace("  ", " ")
