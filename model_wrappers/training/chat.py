"""The ``chat`` template: the tokenizer's own chat template, cut into contexts and targets.

An end-of-sequence token that closes an assistant turn is removed from the text, because tokenising appends this token to
every target. Some chat templates close a turn with another token. Then the target is still followed by the end-of-sequence
token, and the template's own closing text belongs to the context of the next turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError
from model_wrappers.training.formats import Message, NothingToTrain
from model_wrappers.training.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

__all__ = ["chat_prompt", "chat_segments", "chat_template_text"]


def chat_template_text(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Return the source of the tokenizer's chat template.

    Raises:
        ConfigError: no tokenizer is given, or the tokenizer has no chat template.
    """
    if tokenizer is None:
        raise ConfigError("template='chat' is the tokenizer's own chat template: give the tokenizer with it")
    if not isinstance(tokenizer.chat_template, str):
        raise ConfigError(
            "template='chat': this tokenizer has no chat template of its own, as most pre-trained checkpoints; "
            "use template=tulu, or give a tokenizer that has one"
        )
    return str(tokenizer.chat_template)


def chat_prompt(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the turns as the chat template writes them, up to the point where the assistant's next turn begins."""
    return _write(messages, tokenizer, prompt=True)


def chat_segments(
    messages: Sequence[Message], targets: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> tuple[Segment, ...]:
    """Cut the rendered turns before and after each target.

    Raises:
        ConfigError: the template refuses the turns, or it rewrites earlier turns or answers, so an exact cut is impossible.
        NothingToTrain: the text of a context turn contains a special token, which looks like one of the template.
    """
    specials = _special_strings(tokenizer)
    context = [m.content for i, m in enumerate(messages) if i < targets[-1] and i not in targets]
    if any(special in content for content in context for special in specials):
        raise NothingToTrain("special token in text")
    whole = _write(messages[: targets[-1] + 1], tokenizer, prompt=False)
    segments: list[Segment] = []
    done = 0
    for index in targets:
        prompt = _write(messages[:index], tokenizer, prompt=True)
        if not whole.startswith(prompt) or len(prompt) < done:
            raise ConfigError(
                "template='chat': the chat template writes earlier turns differently once a turn follows, so prompt "
                "and answer cannot be told apart; use template=tulu"
            )
        answer = _answer(whole[len(prompt) :], messages[index].content)
        segments.append(Segment(prompt[done:], target=False, special=True))
        segments.append(Segment(answer, target=True))
        done = len(prompt) + len(answer)
        if tokenizer.eos_token and whole.startswith(tokenizer.eos_token, done):
            done += len(tokenizer.eos_token)
    return tuple(segments)


def _answer(rest: str, content: str) -> str:
    for candidate in (content, content.strip()):  # many templates strip the text
        if rest.startswith(candidate):
            return candidate
    raise ConfigError("template='chat': the chat template changes the text of an assistant turn; use template=tulu")


def _special_strings(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | set(tokenizer.all_special_tokens)


def _write(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, *, prompt: bool) -> str:
    import jinja2

    turns = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))
    except jinja2.TemplateError as error:
        raise ConfigError(
            f"template='chat': the chat template refuses the turns {', '.join(m.role for m in messages)}: {error}; "
            "use template=tulu"
        ) from error
