"""Data formats: turn one row of a data set into a dialogue, or report the row's problem.

A `Format` has the names of its fields, its default template, and a function that reads one row. `FORMATS` also gives the order
of detection: a row has the first format whose fields are all present.

A row can have three kinds of problems.

- `MalformedRow`: the row does not have its format. The data set is refused.
- `EmptyField`: a field that must contain text is blank. In a user's own file, the row is refused. In a published data set,
  which the user cannot correct, the row is dropped and counted (the published Alpaca data has blank outputs).
- `NothingToTrain`: the row has its format, but no target. It is always dropped and counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from model_wrappers.errors import ConfigError, DataError, close_match

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FORMATS",
    "Dialogue",
    "EmptyField",
    "Format",
    "MalformedRow",
    "Message",
    "NothingToTrain",
    "Role",
    "detect_format",
    "get_format",
]

Role = Literal["system", "user", "assistant"]

_HH_MARK = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


class MalformedRow(Exception):  # noqa: N818  (internal: the loader turns it into a DataError with file and line)
    """A row does not have its format; the message describes the problem."""


class EmptyField(MalformedRow):
    """A field that must contain text is blank; the message names the field."""


class NothingToTrain(Exception):  # noqa: N818
    """A row has its format, but no target. The message is the reason under which the row is counted."""


@dataclass(frozen=True)
class Message:
    """One turn of a dialogue."""

    role: Role
    content: str


@dataclass(frozen=True)
class Dialogue:
    """A row that was read and checked, before a template is applied.

    Attributes:
        messages: the turns in order; at least one is an assistant turn with text.
        input: text that the single user turn refers to (Alpaca's ``input``, Dolly's ``context``); blank if there is none.
        last_only: True if only the last assistant turn is a target, False if every assistant turn is.
    """

    messages: tuple[Message, ...]
    input: str = ""
    last_only: bool = False

    def targets(self) -> tuple[int, ...]:
        """Return the indices of the messages that are trained on, in order.

        >>> turns = [Message("user", "a"), Message("assistant", "b")] * 2
        >>> Dialogue(tuple(turns)).targets(), Dialogue(tuple(turns), last_only=True).targets()
        ((1, 3), (3,))
        """
        found = tuple(i for i, message in enumerate(self.messages) if message.role == "assistant")
        return found[-1:] if self.last_only else found


@dataclass(frozen=True)
class Format:
    """How rows of one kind are read.

    Attributes:
        name: the name that users type (``data_format=alpaca``).
        fields: the fields that every row has; other fields are ignored.
        template: the template that ``template=auto`` stands for.
        read: turns a row into a `Dialogue`; raises `MalformedRow`, `EmptyField` or `NothingToTrain`.
    """

    name: str
    fields: tuple[str, ...]
    template: str
    read: Callable[[Mapping[str, object]], Dialogue] = field(repr=False)


def get_format(name: str) -> Format:
    """Return the format called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in FORMATS:
        raise ConfigError(
            f"data_format={name!r}: unknown{close_match(name, FORMATS)} (allowed: auto, {', '.join(FORMATS)})"
        )
    return FORMATS[name]


def detect_format(row: Mapping[str, object], where: str) -> Format:
    """Return the first format of `FORMATS` whose fields are all in ``row``.

    >>> detect_format({"instruction": "a", "input": "", "output": "b", "text": "c"}, "line 1").name
    'alpaca'

    Raises:
        DataError: no format fits.
    """
    for candidate in FORMATS.values():
        if all(name in row for name in candidate.fields):
            return candidate
    known = "; ".join(f"{f.name}: {', '.join(f.fields)}" for f in FORMATS.values())
    raise DataError(
        f"{where}: the fields {', '.join(map(repr, row)) or '(none)'} fit no data format ({known}); rename them to "
        "those of one format"
    )


def _text(row: Mapping[str, object], name: str, *, blank: bool = False) -> str:
    """Return the text of a field. With ``blank=True``, the field may also be blank, null or missing."""
    value = row.get(name)
    if value is None:
        if blank:
            return ""
        if name in row:
            raise MalformedRow(f"field {name!r} is null; it must be text")
        raise MalformedRow(f"field {name!r} is missing (fields here: {', '.join(map(repr, row)) or 'none'})")
    if not isinstance(value, str):
        raise MalformedRow(f"field {name!r} is of type {type(value).__name__}; it must be text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can contain half of a surrogate pair, which no tokenizer accepts
            raise MalformedRow(f"field {name!r} is not valid Unicode (a lone surrogate)") from None
    if not blank and not value.strip():
        raise EmptyField(f"field {name!r} is empty; it must hold text")
    return value


def _pair(prompt: str, answer: str, source: str | None = None) -> Callable[[Mapping[str, object]], Dialogue]:
    def read(row: Mapping[str, object]) -> Dialogue:
        context = _text(row, source, blank=True) if source else ""
        question, target = _text(row, prompt), _text(row, answer)
        return Dialogue((Message("user", question), Message("assistant", target)), context if context.strip() else "")

    return read


def _read_text(row: Mapping[str, object]) -> Dialogue:
    return Dialogue((Message("assistant", _text(row, "text")),))


def _read_messages(row: Mapping[str, object]) -> Dialogue:
    given = row.get("messages")
    if not isinstance(given, list):
        found = f"of type {type(given).__name__}" if "messages" in row else "missing"
        raise MalformedRow(f"field 'messages' is {found}; it must be a list of {{role, content}}")
    turns = [_message(item, number) for number, item in enumerate(given, start=1)]
    if not any(turn.role == "assistant" for turn in turns):
        raise MalformedRow(f"'messages' has {len(turns)} turns and none of the assistant's; one at least is needed")
    return Dialogue(tuple(turn for turn in turns if turn.content.strip()))  # only a system turn can be blank here


def _message(item: object, number: int) -> Message:
    if not isinstance(item, dict):
        raise MalformedRow(f"message {number} is of type {type(item).__name__}; it must be an object {{role, content}}")
    role: Any = item.get("role")
    if role not in get_args(Role):
        raise MalformedRow(f"message {number} has the role {role!r}; it must be one of {', '.join(get_args(Role))}")
    try:
        return Message(role, _text(item, "content", blank=role == "system"))
    except EmptyField as error:
        raise EmptyField(f"message {number} ({role}): {error}") from None
    except MalformedRow as error:
        raise MalformedRow(f"message {number} ({role}): {error}") from None


def _read_hh(row: Mapping[str, object]) -> Dialogue:
    """Read ``chosen``. Consecutive turns of one role are merged, and turns after the last assistant turn are dropped."""
    try:
        opening, *parts = _HH_MARK.split(_text(row, "chosen"))
    except EmptyField:
        raise NothingToTrain("empty target") from None
    if opening.strip():
        raise NothingToTrain("text before the first turn")
    turns: list[tuple[Role, list[str]]] = []
    for mark, content in zip(parts[::2], parts[1::2], strict=True):
        role = _HH_ROLES[mark]
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].append(content.strip())
    while turns and turns[-1][0] != "assistant":
        turns.pop()
    if not turns:
        raise NothingToTrain("no assistant turn")
    messages = tuple(Message(role, "\n\n".join(filter(None, contents))) for role, contents in turns)
    if not messages[-1].content:
        raise NothingToTrain("empty target")
    return Dialogue(messages, last_only=True)


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("messages", ("messages",), "tulu", _read_messages),
        Format("hh", ("chosen",), "tulu", _read_hh),
        Format("alpaca", ("instruction", "output"), "alpaca", _pair("instruction", "output", "input")),
        Format("dolly", ("instruction", "response"), "alpaca", _pair("instruction", "response", "context")),
        Format("gsm8k", ("question", "answer"), "qa", _pair("question", "answer")),
        Format("prompt_completion", ("prompt", "completion"), "plain", _pair("prompt", "completion")),
        Format("text", ("text",), "plain", _read_text),
    )
}
"""Every format by name, in the order of detection. ``text`` comes last, because Alpaca's rows also have a field ``text``."""
