"""The task that generates one answer per instruction, in the template that the weights were tuned with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from model_wrappers.compat import request_of_task
from model_wrappers.compat_tasks import GenerationHost
from model_wrappers.errors import ConfigError, DataError
from model_wrappers.generation.prompts import CHAT, TEMPLATE_KEY, TUNING, Instruction, next_turns, write
from model_wrappers.training.templates import TEMPLATES, check_template, template_text
from overtrain_tasks import data
from overtrain_tasks.task import MirroredTask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lm_eval.api.instance import Instance

__all__ = ["AnswersTask", "empty", "length"]


def length(answer: str) -> float:
    """Return the number of characters of a stripped answer."""
    return float(len(answer.strip()))


def empty(answer: str) -> float:
    """Return 1 for an answer without text, else 0."""
    return float(not answer.strip())


class AnswersTask(MirroredTask, GenerationHost):
    """Instructions without a correct answer. The logged answers are the result; ``length`` and ``empty`` describe them.

    The model writes the prompt, because only the model knows the template that it was tuned with. The request asks for this
    with `TEMPLATE_KEY`. If the metadata names a template, or if lm-eval's ``--apply_chat_template`` has already written the
    prompt, the request is an ordinary one that any model accepts.

    In addition to the metadata of `MirroredTask`, the task uses three keys:

    - ``hub_file``: the file with the rows in the hub's data set;
    - ``template``: a name of `model_wrappers.training.templates.TEMPLATES`, ``chat``, or null for the template of the tuning;
    - ``generation``: generation arguments that replace those of the YAML (``{max_gen_toks: 256}``), for studies, which have
      no ``--gen_kwargs``.

    Raises:
        ConfigError: ``template`` or ``generation`` has an impossible value.
        DataError: rows are missing or malformed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        metadata = dict(config["metadata"])
        generation = metadata.get("generation") or {}
        if not isinstance(generation, dict):
            raise ConfigError(
                f"generation={generation!r} in the metadata of {config['task']}: must be a mapping such as "
                "{max_gen_toks: 256}"
            )
        template = metadata.get("template")
        if template is not None:
            _check(template)
            metadata["template_text"] = None if template == CHAT else template_text(template)
        super().__init__(
            dict(config)
            | {"metadata": metadata, "generation_kwargs": {**(config.get("generation_kwargs") or {}), **generation}}
        )

    def rows(self, splits: Sequence[str]) -> dict[str, Dataset]:
        """Read the instructions, without the outputs of other models that the rows also contain."""
        if data.mirror_root() is None:
            return dict.fromkeys(splits, self._hub_rows())
        return {split: rows.select_columns(list(self.fields)) for split, rows in super().rows(splits).items()}

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> Instance:
        """Return the request for one instruction."""
        applied = bool(kwargs.pop("apply_chat_template", False))
        kwargs.pop("chat_template", None)
        arguments: dict[str, Any] = dict(self.config.generation_kwargs or {})
        until = arguments.get("until") or []
        arguments["until"] = [until] if isinstance(until, str) else list(until)
        template = self.metadata.get("template")
        if applied:
            prompt = Instruction(ctx)
        elif template in {None, CHAT}:
            prompt = Instruction(ctx)
            arguments[TEMPLATE_KEY] = template or TUNING
        else:
            prompt = write(str(ctx), template)
            arguments["until"] += [stop for stop in next_turns(template) if stop not in arguments["until"]]
        return request_of_task(self, doc, (prompt, arguments), **kwargs)

    def process_results(self, doc: Any, results: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics of one answer."""
        if self.predicts_only:
            return {}
        (answer,) = results
        return {"length": length(answer), "empty": empty(answer)}

    def _hub_rows(self) -> Dataset:
        """Download the file with the rows. The data set itself is a script, which is never run.

        Raises:
            DataError: the hub cannot be reached, or the file does not have the expected form.
        """
        from huggingface_hub import hf_hub_download

        name = str(self.metadata["hub_file"])
        try:
            path = hf_hub_download(self.DATASET_PATH, name, repo_type="dataset")
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.DATASET_PATH}: {name} cannot be read from the hub ({error}); check the network, or set "
                f"{data.MIRROR_VARIABLE} to a local mirror (alpaca_eval/{self.evaluated_split}.jsonl)"
            ) from error
        wrong = [
            number
            for number, row in enumerate(content if isinstance(content, list) else [None], start=1)
            if not isinstance(row, dict) or any(not isinstance(row.get(field), str) for field in self.fields)
        ]
        if wrong or not content:
            raise DataError(
                f"{self.DATASET_PATH}: {name}, row {wrong[0] if wrong else 1} has not the text fields "
                f"{', '.join(self.fields)}; set {data.MIRROR_VARIABLE} to a local mirror"
            )
        return Dataset.from_list([{field: row[field] for field in self.fields} for row in content])


def _check(template: Any) -> None:
    """Refuse an unknown template. Whether the tokenizer has a chat template is checked later, by the model."""
    if template == CHAT:
        return
    if template == "auto" or not isinstance(template, str):
        raise ConfigError(
            f"template={template!r} in the metadata: leave it out for the template of the tuning, or name one "
            f"({', '.join((*TEMPLATES, CHAT))})"
        )
    check_template(template)
