"""The task classes behind every YAML of this package (``class: !function overtrain_tasks.task.ChoiceTask``).

They are subclasses of lm-eval's task classes (`model_wrappers.compat_tasks`) with three differences. Rows come from
`overtrain_tasks.data`. Few-shot examples come from the split that `overtrain_tasks.fewshot` chooses. Multiple-choice tasks
report two more metrics. Requests and upstream's metrics are not changed.
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
    """A YAML task that reads its rows from the hub or from a local mirror.

    It reads two keys of the YAML's ``metadata``: ``mirror`` (folder inside the mirror) and ``fields`` (the fields that every
    row must have). It adds three keys, which are stored in the results JSON: ``data_source`` (``hub`` or ``mirror``),
    ``data_sha256`` (hash of the ``fields`` of all rows of the evaluated split, in order) and ``fewshot_split``.

    Args:
        config: the YAML's contents from lm-eval's loader, ``class`` included.

    Raises:
        DataError: rows are missing or malformed.
    """

    OWN_METRICS: ClassVar[tuple[str, ...]] = ()
    """Metrics that the class adds to those of the YAML's ``metric_list``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        install_excepthook()  # stock `lm_eval` does not catch our errors; show one message instead of a traceback
        warn_if_untried()
        super().__init__(config=compiled({key: value for key, value in config.items() if key != "class"}))

    @property
    def metadata(self) -> dict[str, Any]:
        """The configuration's metadata, which is stored in the results JSON."""
        return self.config.metadata

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the task reads from every row."""
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
        """Return the names of all splits of the data set."""
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
        """Return the rows that few-shot examples are drawn from; None for a task without examples."""
        if self.fewshot_split is None:
            return None
        rows = self.dataset[self.fewshot_split]
        process = self.fewshot_cfg.process_docs
        return rows if process is None else process(rows)

    def fewshot_pools(self) -> dict[str, int]:
        """Return the number of few-shot rows, by the name of their source in messages."""
        return {f"split {self.fewshot_split!r}": len(self.sampler.df)}

    def build_all_requests(self, **kwargs: Any) -> None:
        """Check that there are enough few-shot rows, then let lm-eval build the requests.

        Deviation: ``--cache_requests`` is ignored. lm-eval's cache key contains the task and the number of shots, but not the
        rows. So a run with other rows, another few-shot split or another text file would get wrong requests.
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
        # lm-eval excludes the evaluated document from its examples if `fewshot_cfg.split` equals `test_split`. Upstream's
        # YAMLs do not set `fewshot_cfg.split`, so tasks without a test split always exclude it (and draw one more row).
        # To get upstream's examples, `fewshot_cfg.split` stays unset here too.
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
    """A multiple-choice task with upstream's metrics and two more.

    - ``bits_per_byte`` of the correct answer: -log-likelihood / (ln 2 x UTF-8 bytes of the scored continuation), averaged
      over documents; lower is better. The bytes are those of the scored string, its leading space included. In a
      multiple-input task (Winogrande), the scored string is the continuation that all inputs share.
    - ``primary``: the metric that the YAML's metadata names. It is ``acc_norm`` if upstream reports it, else ``acc``. Every
      task has a primary metric, so the mean of a group covers all its tasks.

    Deviation: upstream's ``bits_per_byte`` (in rolling tasks) is a ratio of sums over the corpus. This one is a mean over
    documents, so it has lm-eval's standard error of a mean, and models can be compared document by document.
    """

    _ADDED: ClassVar[Mapping[str, bool]] = {"primary": True, "bits_per_byte": False}  # is higher better
    OWN_METRICS = tuple(_ADDED)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        for name, higher_is_better in self._ADDED.items():
            self.add_metric(name, mean, higher_is_better=higher_is_better)
            self.config.metric_list.append(
                {"metric": name, "aggregation": "mean", "higher_is_better": higher_is_better}
            )

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> list[Instance]:
        """Return upstream's requests, after a check that the correct answer is one of the choices.

        Raises:
            DataError: the correct answer is none of the choices; lm-eval would count the document as wrong.
        """
        self.correct(doc)
        return super().construct_requests(doc, ctx, **kwargs)

    def process_results(self, doc: Any, results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        """Return upstream's metrics of one document, and ``primary`` and ``bits_per_byte``.

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
            DataError: the correct answer is none of the choices.
        """
        gold, choices = self.answer_and_choices(doc)
        if isinstance(gold, str) and gold in choices:
            return choices.index(gold)
        if not isinstance(gold, int) or not 0 <= gold < len(choices):
            raise self._bad_row(doc, f"answer {gold!r} is none of the choices, numbered 0 to {len(choices) - 1}")
        return gold


def _task_names() -> list[str]:
    return TaskManager(include_defaults=False, include_path=path()).all_subtasks
