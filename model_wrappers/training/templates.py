r"""Templates: turn a dialogue into pieces of text. Each piece is either a target or context.

The choice of ``template=auto`` is our assumption: the paper gives no template for any of its data sets.

Two rules hold for every template. First, the text before the first target is exactly the prompt that `render_prompt` returns
for generation. Second, a space between a marker and the answer (``Assistant: yes``) belongs to the target, because byte-level
vocabularies contain words with a leading space. So a generated answer may begin with a space.

Source: TULU, https://github.com/allenai/open-instruct (arXiv:2306.04751); Alpaca,
https://github.com/tatsu-lab/stanford_alpaca; HH, https://github.com/anthropics/hh-rlhf.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError, close_match
from model_wrappers.training.chat import chat_prompt, chat_segments, chat_template_text
from model_wrappers.training.formats import Dialogue, Message
from model_wrappers.training.segments import Example, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

__all__ = ["TEMPLATES", "Template", "check_template", "render", "render_prompt", "template_text"]


@dataclass(frozen=True)
class Template:
    """The constant text around the turns; ``{}`` stands for a turn's content.

    Attributes:
        name: the name that users type (``template=tulu``).
        user: the text of a user turn.
        assistant: the text that opens an assistant turn; every prompt ends with it.
        lead: the beginning of every answer; part of the target.
        after: the text between an answer and the next turn; context.
        system: the text of a system turn; None if the template has no place for a system turn.
        user_with_input: the text of a user turn with a separate input (its second ``{}``). If it is None, the input follows
            the instruction after an empty line.
        multi_turn: False if the template allows only one user turn and one answer.
    """

    name: str
    user: str
    assistant: str
    lead: str = ""
    after: str = ""
    system: str | None = None
    user_with_input: str | None = None
    multi_turn: bool = True


_ALPACA = (
    "Below is an instruction that describes a task{}. Write a response that appropriately completes the request.\n\n"
)

TEMPLATES: dict[str, Template] = {
    entry.name: entry
    for entry in (
        Template("tulu", "<|user|>\n{}\n", "<|assistant|>\n", after="\n", system="<|system|>\n{}\n"),
        Template(
            "alpaca",
            _ALPACA.format("") + "### Instruction:\n{}\n\n",
            "### Response:\n",
            user_with_input=_ALPACA.format(", paired with an input that provides further context")
            + "### Instruction:\n{}\n\n### Input:\n{}\n\n",
            multi_turn=False,
        ),
        Template("hh", "\n\nHuman: {}", "\n\nAssistant:", lead=" ", system="{}"),
        Template("qa", "Question: {}\n", "Answer:", lead=" ", after="\n\n", system="{}\n\n"),
        Template("plain", "{}", "", multi_turn=False),
    )
}
"""Every template by name, except ``chat``, which is the tokenizer's own chat template."""


def check_template(name: str, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Check that ``name`` is a template that can be used here.

    Raises:
        ConfigError: there is no such template; or it is ``chat``, and the tokenizer is missing or has no chat template.
    """
    if name == "chat":
        chat_template_text(tokenizer)
    elif name not in TEMPLATES:
        known = (*TEMPLATES, "chat")
        raise ConfigError(f"template={name!r}: unknown{close_match(name, known)} (allowed: auto, {', '.join(known)})")


def template_text(name: str, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, str | bool | None]:
    """Return the template's name and all its constant texts, to be stored with the results.

    Raises:
        ConfigError: as `check_template`.
    """
    check_template(name, tokenizer)
    if name == "chat":
        return {"name": "chat", "chat_template": chat_template_text(tokenizer)}
    return dataclasses.asdict(TEMPLATES[name])


def render(dialogue: Dialogue, template: str, tokenizer: PreTrainedTokenizerBase | None = None) -> Example:
    r"""Return the dialogue as segments, up to its last target.

    >>> rendered = render(Dialogue((Message("user", "2+2?"), Message("assistant", "4"))), "qa")
    >>> [(piece.text, piece.target) for piece in rendered.segments]
    [('Question: 2+2?\nAnswer:', False), (' 4', True)]

    Raises:
        ConfigError: the template is unknown, or it cannot express the dialogue.
        NothingToTrain: only for ``chat``: the text of a context turn contains a special token.
    """
    check_template(template, tokenizer)
    if template == "chat":
        assert tokenizer is not None  # check_template
        return Example(chat_segments(_with_input(dialogue), dialogue.targets(), tokenizer))
    form = TEMPLATES[template]
    _check_turns(form, [m.role for m in dialogue.messages], (["user", "assistant"], ["assistant"]))
    segments: list[Segment] = []
    context = ""
    targets = dialogue.targets()
    for index, message in enumerate(dialogue.messages[: targets[-1] + 1]):
        if index not in targets:
            context += _turn(form, message, dialogue.input)
            continue
        context += form.assistant
        segments += [Segment(context, target=False)] if context else []
        segments.append(Segment(form.lead + message.content, target=True))
        context = form.after
    return Example(tuple(segments))


def render_prompt(
    messages: str | Sequence[Message],
    template: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    input: str = "",  # noqa: A002  (the data sets' own name)
) -> str:
    r"""Return the prompt for generation: the text that training puts before the first target of such a dialogue.

    Args:
        messages: an instruction, or the turns so far; the last turn is not the assistant's. Earlier assistant turns are plain
            text, without an end-of-sequence token after them. Training on ``hh`` does the same. Training on ``messages``
            differs: there, every assistant turn is a target with an end-of-sequence token.
        template: a name of `TEMPLATES`, or ``chat``; not ``auto``.
        tokenizer: needed only for ``chat``.
        input: text that the instruction refers to, as in Alpaca.

    >>> render_prompt("Hello.", "tulu")
    '<|user|>\nHello.\n<|assistant|>\n'

    Raises:
        ConfigError: the template is unknown, or it cannot express the turns.
    """
    check_template(template, tokenizer)
    turns = (Message("user", messages),) if isinstance(messages, str) else tuple(messages)
    if not turns or turns[-1].role == "assistant":
        raise ConfigError("a prompt must end in a user or system turn; leave the assistant's last turn out")
    if template == "chat":
        assert tokenizer is not None  # check_template
        return chat_prompt(_with_input(Dialogue(turns, input)), tokenizer)
    form = TEMPLATES[template]
    _check_turns(form, [m.role for m in turns], (["user"],))
    return "".join(_turn(form, turn, input) for turn in turns) + form.assistant


def _check_turns(form: Template, roles: list[str], single: tuple[list[str], ...]) -> None:
    if not form.multi_turn and roles not in single:
        raise ConfigError(
            f"template={form.name!r} holds one user turn and one answer, not {', '.join(roles)}; use template=tulu"
        )
    if form.system is None and "system" in roles:
        raise ConfigError(f"template={form.name!r} has no place for a system turn; use template=tulu")


def _turn(form: Template, message: Message, context: str) -> str:
    if message.role == "assistant":
        return form.assistant + form.lead + message.content + form.after
    if message.role == "system":
        return (form.system or "").format(message.content)
    if context and form.user_with_input is not None:
        return form.user_with_input.format(message.content, context)
    return form.user.format(_joined(message.content, context))


def _joined(content: str, context: str) -> str:
    return f"{content}\n\n{context}" if context else content


def _with_input(dialogue: Dialogue) -> tuple[Message, ...]:
    """Return the messages with the input inside the user turn, for chat templates, which have no separate input."""
    return tuple(
        Message("user", _joined(m.content, dialogue.input)) if m.role == "user" else m for m in dialogue.messages
    )
