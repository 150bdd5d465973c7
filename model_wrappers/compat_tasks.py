"""Base classes of tasks, alike for those who derive from them whatever lm-eval's release; see `model_wrappers.compat`.

lm-eval 0.4 has one class, ``ConfigurableTask``, for every kind of request. lm-eval 0.5 has a class per kind, reads a
task's rows when they are first asked for, and keeps metrics in scorers. Here 0.5's classes behave as 0.4's did: rows are
read by the constructor, a task in a group bears its own name, `process_results` returns every metric of a document, and
`add_metric` adds one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_wrappers.compat import tasks_of_0_5

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["ChoiceHost", "GenerationHost", "Host", "RollingHost"]

if tasks_of_0_5():
    from lm_eval.api.task import GenerateTask, LoglikelihoodRollingTask, MultipleChoiceTask, Task

    class Host(Task):
        """A task of lm-eval 0.5 of any kind."""

        def __init__(self, config: Mapping[str, Any]) -> None:
            # In a group 0.5 calls a task GROUP::TASK: results of one release would not be found under the other's names.
            given = {key: value for key, value in config.items() if key != "_qualified_name"}
            self._added: dict[str, tuple[Callable[..., Any], bool | None]] = {}
            super().__init__(given)
            self.DATASET_PATH, self.DATASET_NAME = self._dataset_path, self._dataset_name
            self.download(self.config.dataset_kwargs)
            first = self.eval_docs[0]  # 0.4 reads it too: a template that does not fit the rows shows at once
            self.doc_to_text(first)
            self.doc_to_target(first)

        @property
        def fewshot_cfg(self) -> Any:
            """How few-shot examples are chosen."""
            return self._fewshot_cfg

        @property
        def multiple_input(self) -> bool:
            """Whether the choices are contexts of one continuation."""
            return bool(self._multiple_inputs)

        @property
        def predicts_only(self) -> bool:
            """Whether ``--predict_only`` has replaced all metrics."""
            return bool(self._has_metric("bypass"))

        def add_metric(self, name: str, aggregation: Callable[..., Any], *, higher_is_better: bool | None) -> None:
            """Let ``process_results`` return a metric that the configuration does not name."""
            self._added[name] = aggregation, higher_is_better

        def aggregation(self) -> dict[str, Callable[..., Any]]:
            """Return metric -> how documents' values become one."""
            return super().aggregation() | {name: function for name, (function, _) in self._added.items()}

        def higher_is_better(self) -> dict[str, bool | None]:
            """Return metric -> whether higher is better; None where the configuration says so, which 0.5 reads as True."""
            unsaid = {
                _name(entry["metric"]) for entry in self.config.metric_list if entry.get("higher_is_better", 0) is None
            }
            upstream = {name: None if name in unsaid else better for name, better in super().higher_is_better().items()}
            known = {name: better for name, (_, better) in self._added.items() if better is not None}
            return upstream | known

    class ChoiceHost(Host, MultipleChoiceTask):
        """A multiple-choice task."""

        def __init__(self, config: Mapping[str, Any]) -> None:
            self._chat_template = False
            super().__init__(_multiple_inputs(config))

        def answer_and_choices(self, doc: Any) -> tuple[Any, Any]:
            """Return the correct answer as the row gives it, and what it is one of."""
            return Task.doc_to_target(self, doc), self.doc_to_text(
                doc
            ) if self._multiple_inputs else self.doc_to_choice(doc)

        def scored_strings(self, doc: Any) -> list[str]:
            """Return the string whose log-likelihood is taken, per choice."""
            return [request.args[1] for request in self._requests(doc)]

        def build_all_requests(self, **kwargs: Any) -> Any:
            """As upstream; remembers whether a chat template takes the place of the leading space."""
            self._chat_template = bool(kwargs.get("apply_chat_template"))
            return super().build_all_requests(**kwargs)

        def process_results(self, doc: Any, results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
            """Return lm-eval's own metrics of one document, by its own scorer over the document's requests."""
            if self.predicts_only:
                return {}
            (scorer,) = self.scorers
            requests = self._requests(doc)
            for request, result in zip(requests, results, strict=True):
                request.filtered_resps = {scorer.name: [result]}
            return {name: values[0] for name, values in scorer.score_doc(0, requests).scores.items()}

        def _requests(self, doc: Any) -> list[Any]:
            """Return the document's requests with its own text as context: what follows a context depends on its end alone."""
            found: list[Any] = MultipleChoiceTask.construct_requests(
                self, doc, self.doc_to_text(doc), doc_id=0, apply_chat_template=self._chat_template
            )
            return found

    class RollingHost(Host, LoglikelihoodRollingTask):
        """A task of whole texts."""

        def aggregate(self, bootstrap_iters: int | None = None) -> tuple[dict[str, Any], int]:  # noqa: ARG002
            """As upstream, without the bootstrap that 0.5 makes for every aggregation but the mean.

            The closed forms that stand beside the values (`overtrain_tasks.perplexity.task`) would be replaced by it.
            """
            return super().aggregate(bootstrap_iters=0)

        def override_metric(self, metric_name: str) -> None:
            """As upstream, for ``--predict_only`` too: 0.5.0.dev1 itself refuses ``bypass`` for whole texts."""
            kind = self.config.output_type
            self.OUTPUT_TYPE: Any = "loglikelihood"
            try:
                super().override_metric(metric_name)
            finally:
                self.OUTPUT_TYPE = kind

    class GenerationHost(Host, GenerateTask):
        """A task that generates."""

else:
    from lm_eval.api.task import ConfigurableTask

    class Host(ConfigurableTask):  # type: ignore[no-redef]
        """A task of lm-eval 0.4 of any kind."""

        @property
        def predicts_only(self) -> bool:
            """Whether ``--predict_only`` has replaced all metrics."""
            return "bypass" in self._metric_fn_list

        def add_metric(self, name: str, aggregation: Callable[..., Any], *, higher_is_better: bool | None) -> None:
            """Let ``process_results`` return a metric that the configuration does not name."""
            self._aggregation_list[name] = aggregation
            if higher_is_better is not None:
                self._higher_is_better[name] = higher_is_better

        def dump_config(self) -> dict[str, Any]:
            """Return the configuration for the results JSON, functions inside ``fewshot_config`` as text too."""
            config: dict[str, Any] = super().dump_config()
            config["fewshot_config"] = {
                key: self.config.serialize_function(value) if callable(value) else value
                for key, value in config["fewshot_config"].items()
            }
            return config

    class ChoiceHost(Host):  # type: ignore[no-redef]
        """A multiple-choice task."""

        _chat_template = False

        def answer_and_choices(self, doc: Any) -> tuple[Any, Any]:
            """Return the correct answer as the row gives it, and what it is one of."""
            return self.doc_to_text(doc) if self.multiple_input else self.doc_to_target(doc), self.doc_to_choice(doc)

        def scored_strings(self, doc: Any) -> list[str]:
            """Return the string whose log-likelihood is taken, per choice."""
            choices = self.doc_to_choice(doc)
            targets = [self.doc_to_target(doc)] * len(choices) if self.multiple_input else choices
            # With a chat template lm-eval puts no delimiter before the answer (these tasks have no gen_prefix).
            return targets if self._chat_template else [f"{self.config.target_delimiter}{target}" for target in targets]

        def build_all_requests(self, **kwargs: Any) -> Any:
            """As upstream; remembers whether a chat template takes the place of the leading space."""
            self._chat_template = bool(kwargs.get("apply_chat_template"))
            return super().build_all_requests(**kwargs)

    class RollingHost(Host):  # type: ignore[no-redef]
        """A task of whole texts."""

    class GenerationHost(Host):  # type: ignore[no-redef]
        """A task that generates."""


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else str(metric.__name__)


def _multiple_inputs(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with multiple inputs, as 0.4 spells it, in 0.5's spelling.

    In 0.4 an index as ``doc_to_text`` said that the choices are contexts and the target their continuation. In 0.5
    ``multiple_inputs`` says so, the contexts are ``doc_to_text``, the continuation the one choice, the index the target.
    """
    if not (config.get("metadata") or {}).get("multiple_inputs"):
        return dict(config)
    continuation = config["doc_to_target"]
    return dict(config) | {
        "multiple_inputs": True,
        "doc_to_text": config["doc_to_choice"],
        "doc_to_choice": lambda doc: [continuation(doc)],
        "doc_to_target": config["doc_to_text"],
    }
