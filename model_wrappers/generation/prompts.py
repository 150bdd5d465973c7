r"""From an instruction to what a model continues: the template, where an answer ends, and how long it may become.

A task hands over an `Instruction` and says in the request's generation arguments under `TEMPLATE_KEY` which template it
wants. It says so there, and not on the string alone, because lm-eval's caches and our digests see the arguments: the same
instruction under another template is another request. A model that knows nothing of the key refuses the argument, rather
than answer an instruction without the template that it was tuned with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from model_wrappers.errors import ConfigError
from model_wrappers.training.templates import TEMPLATES, check_template, render_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CHAT",
    "TEMPLATE_KEY",
    "TUNING",
    "AnswerLength",
    "Instruction",
    "answer_length",
    "next_turns",
    "resolve_template",
    "write",
]

TEMPLATE_KEY = "overtrain_template"
"""Generation argument of a request whose prompt the model has to write: `TUNING` or `CHAT`."""

TUNING = "tuning"
"""The template that the weights were tuned with."""

CHAT = "chat"
"""The tokenizer's own chat template."""

_NEXT_TURNS: dict[str, tuple[str, ...]] = {
    "tulu": ("<|user|>",),
    "alpaca": ("### Instruction:",),
    "hh": ("\n\nHuman:",),
    "qa": ("\n\nQuestion:",),
    "plain": (),
}
_STEPS = 16
"""Into how many lengths the context is divided for shortened answers: few, so that requests of one length make batches."""


class Instruction(str):
    """The prompt of an instruction task.

    A string for every purpose that lm-eval has for it; our models know by the type that the answer is to be shortened, not
    the prompt, where both do not fit the context.
    """

    __slots__ = ()


class AnswerLength(NamedTuple):
    """How an answer fits.

    Attributes:
        tokens: that the answer may have.
        truncated: the prompt itself must be cut (on the left) to leave even that.
    """

    tokens: int
    truncated: bool


def resolve_template(wanted: str, taught: str | None, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Return the name of the template to write prompts with.

    Args:
        wanted: what the request asks for, `TUNING` or the name of a template.
        taught: template that the weights were trained with, None if they were not trained here.
        tokenizer: the model's.

    Raises:
        ConfigError: nothing says which, or there is no such template.
    """
    if wanted != TUNING:
        check_template(wanted, tokenizer)
        return wanted
    if taught is not None:
        return taught
    if tokenizer is not None and isinstance(tokenizer.chat_template, str):
        return CHAT
    known = (*TEMPLATES, CHAT)
    raise ConfigError(
        "no template for the instructions: the weights were not tuned here and their tokenizer has no chat template; name "
        f'one, e.g. --metadata \'{{"template": "alpaca"}}\' (in a study, evaluation: {{metadata: {{template: alpaca}}}}; '
        f"allowed: {', '.join(known)})"
    )


def write(instruction: str, template: str, tokenizer: PreTrainedTokenizerBase | None = None) -> Instruction:
    r"""Return the prompt: what training put before the answer.

    >>> str(write("Say hello.", "hh"))
    '\n\nHuman: Say hello.\n\nAssistant:'

    Raises:
        ConfigError: there is no such template.
    """
    return Instruction(render_prompt(instruction, template, tokenizer))


def next_turns(template: str) -> tuple[str, ...]:
    """Return the texts with which a model would go on to write the next user turn itself; an answer ends before them."""
    return _NEXT_TURNS.get(template, ())


def answer_length(prompt: int, wanted: int, context: int) -> AnswerLength:
    """Return how many tokens an answer may have.

    An answer that does not fit is shortened to a multiple of a sixteenth of the context; a prompt that leaves less than one
    is cut on the left as lm-eval cuts it.

    Args:
        prompt: tokens of the prompt.
        wanted: tokens that the answer may have at most.
        context: tokens that the model takes.

    >>> answer_length(100, 1024, 2048)
    AnswerLength(tokens=1024, truncated=False)
    >>> answer_length(100, 1024, 512)
    AnswerLength(tokens=384, truncated=False)
    >>> answer_length(500, 1024, 512)
    AnswerLength(tokens=32, truncated=True)
    """
    left = context - prompt
    if wanted <= left:
        return AnswerLength(wanted, truncated=False)
    step = max(1, context // _STEPS)
    fits = max(left // step * step, step)
    return AnswerLength(min(wanted, fits), truncated=left < min(wanted, fits))
