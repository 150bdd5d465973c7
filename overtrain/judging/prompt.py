"""The judge's prompt: AlpacaEval's own text, filled in so that nothing in an instruction or an answer can change it.

The text is read from the installed package, which is not imported for that. It is cut at its placeholders once; texts are
put between the pieces, so a ``{output_2}`` inside an answer stays what it is. Strings that a tokenizer would read as the end of
a message or the start of another role are broken by one space. Everything else is AlpacaEval's prompt, byte for byte.

Source: alpaca_eval 0.6.6, ``evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt``, the template of
``weighted_alpaca_eval_vllm_llama3_70b``.
Deviation: alpaca_eval replaces placeholders one after the other in the growing text, and sends special tokens as they are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FIRST", "SECOND", "JudgeTemplate", "SpecialTokens", "installed_template", "load_template"]

FIRST, SECOND = "m", "M"
"""How the template names the answer that is shown first and the one that is shown second."""

_NAME = "alpaca_eval_clf"
_FILE = f"evaluators_configs/alpaca_eval_clf_gpt4_turbo/{_NAME}.txt"
_START, _END = "<|im_start|>", "<|im_end|>"
_PLACES = ("instruction", "output_1", "output_2")
_PLACE = re.compile("(" + "|".join(f"\\{{{name}\\}}" for name in _PLACES) + ")")
_KNOWN = re.compile(
    r"<(?=[|\uff5c][^\s<>|\uff5c]{1,64}[|\uff5c]>)"  # <|im_end|>, <|eot_id|>; some models write a fullwidth bar
    r"|<(?=/?(?:s|unk|pad|bos|eos|mask|cls|sep|start_of_turn|end_of_turn|end_of_utterance|endoftext|end_of_text)>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|BOS|EOS|PAD|CLS|SEP|MASK|UNK)\])",
)


class SpecialTokens:
    """Breaks texts that a tokenizer could read as special tokens, by a space after their first character.

    >>> SpecialTokens().broken("a <|im_end|> and <s>, but x < y |> z")
    ('a < |im_end|> and < s>, but x < y |> z', 2)
    >>> SpecialTokens(["<END>", "word"]).broken("<END> of a word")
    ('< END> of a word', 1)

    Args:
        served: further tokens, of the judge's own tokenizer. One that is a plain word is left alone.
    """

    def __init__(self, served: Iterable[str] = ()) -> None:
        own = {t for t in served if len(t) > 1 and not t.isspace() and not t.replace("_", "a").isalnum()}
        more = [f"{re.escape(t[0])}(?={re.escape(t[1:])})" for t in sorted(own, key=lambda t: (-len(t), t))]
        self._pattern = re.compile("|".join([_KNOWN.pattern, *more]))

    def broken(self, text: str) -> tuple[str, int]:
        """Return the text without special tokens, and the number of inserted spaces.

        Half a surrogate pair, which no UTF-8 request can carry, becomes U+FFFD.
        """
        if not text.isascii():
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._pattern.subn(lambda found: found.group() + " ", text)


@dataclass(frozen=True)
class JudgeTemplate:
    """A judge's prompt, cut at its placeholders.

    Attributes:
        name: of the file, without its extension.
        sha256: of the file's text, as hex.
        version: of the alpaca_eval package that it came from, where it did.
        messages: role and pieces of each; the odd pieces are names of placeholders.
    """

    name: str
    sha256: str
    version: str | None
    messages: tuple[tuple[str, tuple[str, ...]], ...]

    def fill(self, instruction: str, first: str, second: str) -> list[dict[str, str]]:
        """Return the messages of one pair, as the chat API takes them.

        Args:
            instruction: that both answers follow; its special tokens broken, like those of the answers.
            first: the answer that the template shows first, as ``m``.
            second: the other, ``M``.
        """
        texts = dict(zip(_PLACES, (instruction, first, second), strict=True))
        return [
            {"content": "".join(texts[p] if i % 2 else p for i, p in enumerate(pieces)), "role": role}
            for role, pieces in self.messages
        ]


def load_template(file: Path | None = None) -> JudgeTemplate:
    """Return AlpacaEval's template, read from the installed package, or another one.

    Args:
        file: ChatML with ``{instruction}``, ``{output_1}`` and ``{output_2}`` once each, in which the answers are named
            ``m`` and ``M``.

    Raises:
        ConfigError: the package is not installed, or the text is no such template.
    """
    version = None
    if file is None:
        file, version = installed_template()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the judge's template {file} cannot be read ({error}); give a ChatML text file") from error
    return JudgeTemplate(file.stem, hashlib.sha256(text.encode()).hexdigest(), version, _parse(text, file))


def installed_template() -> tuple[Path, str]:
    """Return AlpacaEval's file in the installed package, and the package's version, without importing the package.

    Raises:
        ConfigError: it is not installed, or has no such file.
    """
    spec = importlib.util.find_spec("alpaca_eval")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        path = Path(folder, _FILE)
        if path.is_file():
            return path, importlib.metadata.version("alpaca_eval")
    where = f"the alpaca_eval in {folders[0]} has no {_FILE}" if folders else "alpaca_eval is not installed"
    raise ConfigError(f"{where}: its judge prompt is needed; pip install 'lm-eval-overtrain[alpaca]'")


def _parse(text: str, file: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Cut ChatML into roles and pieces, with white space at the ends of messages dropped as alpaca_eval does."""
    text = text.strip()
    if not (text.startswith(_START) and text.endswith(_END)):
        raise ConfigError(f"{file} is no ChatML: it must start with {_START} and end with {_END}")
    messages = []
    for part in text.split(_START)[1:]:
        role, _, rest = part.partition("\n")
        if role.strip() not in {"system", "user", "assistant"}:
            raise ConfigError(f"{file}: the role {role.strip()!r} is none of system, user, assistant")
        messages.append((role.strip(), tuple(_pieces(rest.split(_END, 1)[0].strip()))))
    found = [name for _, pieces in messages for name in pieces[1::2]]
    if sorted(found) != sorted(_PLACES):
        need = ", ".join(f"{{{name}}}" for name in _PLACES)
        raise ConfigError(f"{file}: a template needs {need} once each, this one has {', '.join(found) or 'none'}")
    return tuple(messages)


def _pieces(content: str) -> list[str]:
    return [piece.strip("{}") if i % 2 else piece for i, piece in enumerate(_PLACE.split(content))]
