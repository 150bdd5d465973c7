r"""From an instruction to the prompt that a model continues: the template, the stop texts, and the length of the answer.

A task passes an `Instruction`, and names its template in the request's generation arguments under `TEMPLATE_KEY`. The
template is named in the arguments, because lm-eval's caches and our digests contain them: one instruction with two templates
is two requests. A model that does not know `TEMPLATE_KEY` refuses the argument. So an instruction is never answered
without the template that the model was tuned with.
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
"""Generation argument of a request whose prompt the model has to write. Its value is `TUNING` or `CHAT`."""

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
"""Number of lengths that shortened answers can have. It is small, so that many requests share a length and form batches."""


class Instruction(str):
    """The prompt of an instruction task.

    lm-eval treats it as a string. The type tells our models to shorten the answer, not the prompt, if the two together do
    not fit the context.
    """

    __slots__ = ()


class AnswerLength(NamedTuple):
    """The length of an answer that fits into the context.

    Attributes:
        tokens: largest number of tokens of the answer.
        truncated: whether the prompt must be cut on the left to leave this many tokens.
    """

    tokens: int
    truncated: bool


def resolve_template(wanted: str, taught: str | None, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Return the name of the template to write prompts with.

    Args:
        wanted: the template that the request asks for, `TUNING` or the name of a template.
        taught: template that the weights were trained with; None if they were not trained by us.
        tokenizer: the model's tokenizer.

    Raises:
        ConfigError: no template is known, or there is no template of this name.
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
    r"""Return the prompt: the text that training put before the answer.

    >>> str(write("Say hello.", "hh"))
    '\n\nHuman: Say hello.\n\nAssistant:'

    Raises:
        ConfigError: there is no such template.
    """
    return Instruction(render_prompt(instruction, template, tokenizer))


def next_turns(template: str) -> tuple[str, ...]:
    """Return the texts that begin a user turn. If a model writes one of them, its answer ends there."""
    return _NEXT_TURNS.get(template, ())


def answer_length(prompt: int, wanted: int, context: int) -> AnswerLength:
    """Return how many tokens an answer may have.

    An answer that does not fit is shortened to a multiple of one sixteenth of the context. If the prompt leaves less than
    one sixteenth, the prompt is cut on the left, as lm-eval does.

    Args:
        prompt: tokens of the prompt.
        wanted: largest number of tokens that the request allows for the answer.
        context: context length of the model in tokens.

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
