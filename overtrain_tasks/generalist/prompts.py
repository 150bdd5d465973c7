"""Parts of prompts that a template cannot express, for the YAMLs of this folder.

Each function returns exactly the text that lm-eval's task of the same name builds from the row; tests compare them.
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
    """Activity label and context, without WikiHow's markup."""
    return _clean(f"{doc['activity_label']}: {doc['ctx_a']} {doc['ctx_b'].capitalize()}")


def hellaswag_choices(doc: Mapping[str, Any]) -> list[str]:
    """The four endings, without WikiHow's markup."""
    return [_clean(ending) for ending in doc["endings"]]


def winogrande_index(doc: Mapping[str, Any]) -> int:
    """Index of the option that fits the blank. An int tells lm-eval that the choices are contexts."""
    return ("1", "2").index(doc["answer"])


def winogrande_contexts(doc: Mapping[str, Any]) -> list[str]:
    """The sentence up to the blank, followed by each of the two options."""
    before = doc["sentence"].partition("_")[0]
    return [before + doc["option1"], before + doc["option2"]]


def winogrande_continuation(doc: Mapping[str, Any]) -> str:
    """The sentence after the blank. It is scored after each of the two contexts."""
    before, blank, after = doc["sentence"].partition("_")
    if not blank:
        raise ValueError(f"no blank '_' in {before!r}")
    return after.strip()


def copa_text(doc: Mapping[str, Any]) -> str:
    """The premise without its full stop, followed by ``because`` (for a cause) or ``therefore`` (for an effect)."""
    return f"{doc['premise'].strip()[:-1]} {_CONNECTORS[doc['question']]}"


def copa_choices(doc: Mapping[str, Any]) -> list[str]:
    """Both alternatives, with a lower-case first letter. Together with lm-eval's delimiter, two spaces precede them."""
    return [" " + choice[0].lower() + choice[1:] for choice in (doc["choice1"], doc["choice2"])]


def copa_target(doc: Mapping[str, Any]) -> str:
    """The correct alternative as `copa_choices` spells it."""
    return copa_choices(doc)[(0, 1).index(doc["label"])]


def _clean(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return _BRACKETS.sub("", text).replace("  ", " ")
