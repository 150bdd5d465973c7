"""Turns a task's instructions into prompts, fits prompt and answer into the context, and counts what was cut."""

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
    """Writes the prompts of one model and counts their tokens; the counts go into the results.

    Args:
        tokenizer: the model's tokenizer.
        count: returns the number of tokens of a prompt, special tokens included.
        context: context length of the model in tokens.
        max_gen_toks: lm-eval's default length of an answer, for tasks that give none.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, count: Callable[[str], int], context: int, max_gen_toks: int
    ) -> None:
        self._tokenizer, self._count, self._context, self._default = tokenizer, count, context, max_gen_toks
        self._templates: dict[str, str] = {}
        self._kwargs: set[str] = set()
        self._counts: Counter[str] = Counter()  # of this process
        self._total: Counter[str] = Counter()  # of all processes
        self.longest = 0

    def run(self, requests: Sequence[Instance], taught: str | None) -> list[Instance]:
        """Return the requests with written prompts, and with answer lengths that fit the context.

        Requests of other tasks, whose prompt is not an `Instruction`, are returned unchanged.

        Args:
            requests: lm-eval's requests of the kind ``generate_until``.
            taught: template that the weights were trained with; None if they were not trained by us.

        Raises:
            ConfigError: no template is known, or a generation argument has an impossible value.
        """
        done: dict[int, Instance] = {}  # lm-eval repeats requests, so that every process has equally many
        for request in requests:
            if id(request) not in done:
                done[id(request)] = self._one(request, taught)
        self._total = Counter(self._counts)
        return [done[id(request)] for request in requests]

    def counts(self) -> dict[str, int]:
        """Return the counts of this process: prompts, prompts that were cut, and answers with a reduced length."""
        return {name: self._counts[name] for name in _COUNTS}

    def add_counts(self, others: Sequence[Mapping[str, int]]) -> None:
        """Set the totals for `warn` and `describe` to the sum over all processes, this process included."""
        self._total = sum((Counter(o) for o in others), Counter())

    def warn(self) -> None:
        """Log one warning if prompts did not fit into the context."""
        if self._total["prompts_truncated"]:
            _log.warning(
                "%d of %d prompts leave no room for an answer in a context of %d tokens and were cut on the left",
                self._total["prompts_truncated"],
                self._total["prompts"],
                self._context,
            )

    def describe(self) -> dict[str, Any]:
        """Return templates, counts and generation arguments as JSON data; empty if no prompt was written."""
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
