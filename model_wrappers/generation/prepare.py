"""Requests as a task hands them over become what is generated from, and what happened to them is counted."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from lm_eval.models.utils import normalize_gen_kwargs

from model_wrappers.errors import ConfigError
from model_wrappers.generation.prompts import (
    TEMPLATE_KEY,
    Instruction,
    answer_length,
    next_turns,
    resolve_template,
    write,
)
from model_wrappers.identity import canonical
from model_wrappers.training.templates import template_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lm_eval.api.instance import Instance
    from transformers import PreTrainedTokenizerBase

__all__ = ["Preparation"]

_COUNTS = ("prompts", "prompts_truncated", "answers_shortened")
_log = logging.getLogger(__name__)


class Preparation:
    """Writes and measures the prompts of one model; what came of it goes into the results.

    Args:
        tokenizer: the model's.
        count: number of tokens of a prompt, special tokens included.
        context: tokens that the model takes.
        max_gen_toks: lm-eval's default for tasks that do not say.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, count: Callable[[str], int], context: int, max_gen_toks: int
    ) -> None:
        self._tokenizer, self._count, self._context, self._default = tokenizer, count, context, max_gen_toks
        self._templates: dict[str, str] = {}
        self._kwargs: set[str] = set()
        self._counts: Counter[str] = Counter()  # of this process
        self._total: Counter[str] = Counter()  # of all of them
        self.longest = 0

    def run(self, requests: Sequence[Instance], taught: str | None) -> list[Instance]:
        """Return the requests with their prompts written and their answers' lengths fitted to the context.

        Requests of tasks that know nothing of templates stay as they are.

        Args:
            requests: of ``generate_until``.
            taught: template that the weights were trained with, None if they were not trained here.

        Raises:
            ConfigError: nothing says which template to use, or a generation argument cannot be.
        """
        done: dict[int, Instance] = {}  # lm-eval repeats requests to give every process as many
        for request in requests:
            if id(request) not in done:
                done[id(request)] = self._one(request, taught)
        self._total = Counter(self._counts)
        return [done[id(request)] for request in requests]

    def counts(self) -> dict[str, int]:
        """Return this process's numbers: prompts, how many of them were cut, and answers shortened beforehand."""
        return {name: self._counts[name] for name in _COUNTS}

    def add_counts(self, others: Sequence[Mapping[str, int]]) -> None:
        """Take over the numbers of all processes, this one's included, for `warn` and `describe`."""
        self._total = sum((Counter(o) for o in others), Counter())

    def warn(self) -> None:
        """Say once, for all prompts, what did not fit."""
        if self._total["prompts_truncated"]:
            _log.warning(
                "%d of %d prompts leave no room for an answer in a context of %d tokens and were cut on the left",
                self._total["prompts_truncated"],
                self._total["prompts"],
                self._context,
            )

    def describe(self) -> dict[str, Any]:
        """Return templates, counts and generation arguments as JSON data; nothing if no prompt was written here."""
        import json

        if not self._total["prompts"]:
            return {}
        texts = [template_text(name, self._tokenizer) for name in sorted(set(self._templates.values()))]
        counts = {name: self._total[name] for name in _COUNTS}
        return counts | {"templates": texts, "arguments": [json.loads(k) for k in sorted(self._kwargs)]}

    def _one(self, request: Instance, taught: str | None) -> Instance:
        text, given = request.args
        if not isinstance(text, Instruction):
            return request
        kwargs: dict[str, Any] = dict(normalize_gen_kwargs(given, self._default))
        if kwargs["do_sample"] and not kwargs.get("temperature"):
            raise ConfigError("do_sample=True: sampling needs a temperature above 0; give e.g. temperature=0.7 with it")
        wanted = kwargs.pop(TEMPLATE_KEY, None)
        if wanted is not None:
            if wanted not in self._templates:
                self._templates[wanted] = resolve_template(str(wanted), taught, self._tokenizer)
            template = self._templates[wanted]
            text = write(text, template, self._tokenizer)
            kwargs["until"] = [*kwargs["until"], *(s for s in next_turns(template) if s not in kwargs["until"])]
        self._kwargs.add(canonical(kwargs))
        tokens = self._count(text)
        room = answer_length(tokens, kwargs["max_gen_toks"], self._context)
        self.longest = max(self.longest, min(tokens + room.tokens, self._context))
        self._counts["prompts"] += 1
        self._counts["prompts_truncated"] += room.truncated
        self._counts["answers_shortened"] += room.tokens < kwargs["max_gen_toks"]
        return dataclasses.replace(request, arguments=(text, kwargs | {"max_gen_toks": room.tokens}))
