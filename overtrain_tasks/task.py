"""The task classes behind every YAML of this package (``class: !function overtrain_tasks.task.ChoiceTask``).

They are lm-eval's task classes (`model_wrappers.compat_tasks`) with three things added: rows come through
`overtrain_tasks.data`, few-shot examples from the split that `overtrain_tasks.fewshot` chooses, and multiple-choice
tasks report two more metrics.
Requests and upstream's metrics are lm-eval's own.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import TemplateError
from lm_eval.api.metrics import mean
from lm_eval.tasks import TaskManager

from model_wrappers.compat import warn_if_untried
from model_wrappers.compat_tasks import ChoiceHost, Host
from model_wrappers.errors import DataError, install_excepthook
from overtrain_tasks import data, fewshot, path
from overtrain_tasks.templates import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from datasets import Dataset
    from lm_eval.api.instance import Instance

__all__ = ["ChoiceTask", "MirroredTask"]

_log = logging.getLogger(__name__)
_BAD_ROW = (ValueError, KeyError, IndexError, TypeError, SyntaxError, TemplateError)


class MirroredTask(Host):
    """A YAML task that reads the hub or a local mirror.

    Keys of the YAML's ``metadata`` that it uses: ``mirror`` (folder inside the mirror) and ``fields`` (what every row
    must have). It adds, for the results JSON: ``data_source`` (``hub`` or ``mirror``), ``data_sha256`` (of the fields
    of all rows of the evaluated split, in order) and ``fewshot_split``.

    Args:
        config: the YAML as lm-eval's loader hands it over, ``class`` included.

    Raises:
        DataError: rows are missing or malformed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        install_excepthook()  # stock `lm_eval` catches nothing: show one message, not a traceback
        warn_if_untried()
        super().__init__(config=compiled({key: value for key, value in config.items() if key != "class"}))

    @property
    def metadata(self) -> dict[str, Any]:
        """The configuration's metadata, which ends up in the results JSON."""
        return self.config.metadata

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the task reads of every row."""
        return tuple(self.metadata["fields"])

    @property
    def evaluated_split(self) -> str:
        """The split whose documents are scored."""
        return self.config.test_split or self.config.validation_split

    def rows(self, splits: Sequence[str]) -> dict[str, Dataset]:
        """Read the rows of the given splits."""
        return data.load(
            self.DATASET_PATH,
            self.DATASET_NAME,
            splits,
            mirror=self.metadata.get("mirror"),
            fields=self.fields,
        )

    def split_names(self) -> tuple[str, ...]:
        """The splits that there are."""
        return data.split_names(self.DATASET_PATH, self.DATASET_NAME, mirror=self.metadata.get("mirror"))

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:  # noqa: ARG002
        """Read the evaluated split and the few-shot split; lm-eval's constructor calls this."""
        self.fewshot_split = None if self.config.num_fewshot == 0 else self._choose_fewshot_split()
        wanted = dict.fromkeys((self.evaluated_split, self.fewshot_split))
        self.dataset = self.rows([split for split in wanted if split is not None])
        self.metadata.setdefault("data_source", "hub" if data.mirror_root() is None else "mirror")
        self.metadata["data_sha256"] = data.fingerprint(self.dataset[self.evaluated_split], self.fields)
        if self.fewshot_split is not None:
            self.metadata["fewshot_split"] = self.fewshot_split

    def fewshot_docs(self) -> Any:
        """The rows that few-shot examples are drawn from, or None for a task without examples."""
        if self.fewshot_split is None:
            return None
        rows = self.dataset[self.fewshot_split]
        process = self.fewshot_cfg.process_docs
        return rows if process is None else process(rows)

    def fewshot_pools(self) -> dict[str, int]:
        """How many few-shot rows there are, by what a message should call them."""
        return {f"split {self.fewshot_split!r}": len(self.sampler.df)}

    def build_all_requests(self, **kwargs: Any) -> None:
        """Check that there are enough few-shot rows, then let lm-eval build the requests.

        Deviation: ``--cache_requests`` is ignored. Its key names the task and the number of shots, not the rows, so a
        run on other rows, another few-shot split or another text file would be given the wrong requests.
        """
        if kwargs.pop("cache_requests", False):
            _log.warning("%s: --cache_requests ignored, its key does not name the rows", self.config.task)
        shots = self.config.num_fewshot or 0
        if shots and self.fewshot_split is not None:
            self._check_pools(shots)
        super().build_all_requests(**kwargs)

    def doc_to_text(self, doc: Any, doc_to_text: Any = None) -> Any:
        """As upstream; a row that does not fit is a `DataError`."""
        return self._guarded(super().doc_to_text, doc, doc_to_text)

    def doc_to_target(self, doc: Any, doc_to_target: Any = None) -> Any:
        """As upstream; a row that does not fit is a `DataError`."""
        return self._guarded(super().doc_to_target, doc, doc_to_target)

    def doc_to_choice(self, doc: Any, doc_to_choice: Any = None) -> Any:
        """As upstream; a row that does not fit is a `DataError`."""
        return self._guarded(super().doc_to_choice, doc, doc_to_choice)

    def _guarded(self, render: Callable[[Any, Any], Any], doc: Any, template: Any) -> Any:
        try:
            return render(doc, template)
        except _BAD_ROW as error:
            raise self._bad_row(doc, f"{type(error).__name__}: {error}") from error

    def _bad_row(self, doc: Any, what: str) -> DataError:
        row = repr(doc)
        shown = row if len(row) <= 300 else f"{row[:300]}..."
        return DataError(f"{self.config.task}: a row does not fit the task ({what}); correct or remove it: {shown}")

    def _choose_fewshot_split(self) -> str:
        preferred = self.config.fewshot_split or self.config.training_split
        chosen = fewshot.choose(
            self.config.task,
            preferred=preferred,
            evaluated=self.evaluated_split,
            splits=self.split_names,
            mirrored=data.mirror_root() is not None,
            known=_task_names,
        )
        # lm-eval leaves the evaluated document out where `fewshot_cfg.split` equals `test_split`. Upstream's YAMLs
        # leave the former unset, so tasks without a test split leave it out always (and draw one row more): to get
        # upstream's examples it stays unset here too.
        if self.config.fewshot_split is not None:
            self.config.fewshot_split = self.fewshot_cfg.split = chosen
        elif chosen == self.config.test_split:
            self.fewshot_cfg.split = chosen
        return chosen

    def _check_pools(self, shots: int) -> None:
        spare = int(self.fewshot_cfg.split == self.config.test_split)
        for pool, size in self.fewshot_pools().items():
            if size < shots + spare:
                reason = f"{shots} and a spare one (the evaluated document is left out)" if spare else f"{shots}"
                raise DataError(
                    f"{self.config.task}: {pool} has {size} few-shot rows, num_fewshot={shots} needs {reason}; lower "
                    f"--num_fewshot, add rows, or choose another split with {fewshot.FEWSHOT_VARIABLE}"
                )


class ChoiceTask(MirroredTask, ChoiceHost):
    """A multiple-choice task: upstream's metrics, and two more.

    - ``bits_per_byte`` of the correct answer: -log-likelihood / (ln 2 x UTF-8 bytes of the scored continuation), lower
      is better, the plain mean over documents. The bytes are those of the string that is scored, its leading space
      included. Of a multiple-input task (Winogrande) that is the continuation that all inputs share.
    - ``primary``: the metric that the YAML's metadata names, ``acc_norm`` where upstream has it, else ``acc``. Every
      task has one, so a group's mean covers all of its tasks.

    Deviation: upstream's ``bits_per_byte`` (rolling tasks) divides sums over the corpus; this one averages per
    document, so that it has lm-eval's standard error of a mean and pairs by document.
    """

    _ADDED: ClassVar[Mapping[str, bool]] = {"primary": True, "bits_per_byte": False}  # is higher better

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        for name, higher_is_better in self._ADDED.items():
            self.add_metric(name, mean, higher_is_better=higher_is_better)
            self.config.metric_list.append(
                {"metric": name, "aggregation": "mean", "higher_is_better": higher_is_better}
            )

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> list[Instance]:
        """As upstream, for documents whose correct answer is one of their choices.

        Raises:
            DataError: the answer is none of the choices; lm-eval would count the document as wrong.
        """
        self.correct(doc)
        return super().construct_requests(doc, ctx, **kwargs)

    def process_results(self, doc: Any, results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        """Upstream's metrics of one document, with ``primary`` and ``bits_per_byte``.

        Args:
            doc: the document.
            results: (log-likelihood in nats, is greedy) of each choice, in order.
        """
        metrics = super().process_results(doc, results)
        if self.metadata["primary"] not in metrics:  # --predict_only replaces all metrics
            return metrics
        loglikelihood = results[self.correct(doc)][0]
        n_bytes = len(self.scored_strings(doc)[self.correct(doc)].encode("utf-8"))
        return {
            **metrics,
            "primary": metrics[self.metadata["primary"]],
            "bits_per_byte": -loglikelihood / (math.log(2) * n_bytes),
        }

    def correct(self, doc: Any) -> int:
        """Return the index of the correct choice.

        Raises:
            DataError: it is none of the choices.
        """
        gold, choices = self.answer_and_choices(doc)
        if isinstance(gold, str) and gold in choices:
            return choices.index(gold)
        if not isinstance(gold, int) or not 0 <= gold < len(choices):
            raise self._bad_row(doc, f"answer {gold!r} is none of the choices, numbered 0 to {len(choices) - 1}")
        return gold


def _task_names() -> list[str]:
    return TaskManager(include_defaults=False, include_path=path()).all_subtasks
