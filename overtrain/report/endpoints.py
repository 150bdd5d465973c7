"""What a study measures: texts, benchmarks, averages over them, and which of them every curve is read on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from overtrain.report.view import TRAINING
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import pandas as pd

    from overtrain.report.view import Line

__all__ = ["ACCURACIES", "BIASED", "Endpoint", "endpoints", "main_endpoints", "told_apart"]

Scale = Literal["nats", "bits", "share", "other"]

ACCURACIES = ("primary", "acc_norm", "acc")
"""Metrics of a benchmark that are shares of documents, the preferred one first."""
BIASED = "biased: selected on what is reported"
"""What every name, title and sentence of a win rate carries that also selected the learning rate."""
_LIKELIHOODS = ("nll_per_token", "bits_per_byte")
_UNITS = {
    "nll_per_token": "nats per token",
    "bits_per_byte": "bits per byte",
    "validation_loss": "validation loss",
    "primary": "accuracy (primary)",
    "acc": "accuracy",
    "acc_norm": "accuracy (acc_norm)",
    "win_rate": "win rate (%)",
}


@dataclass(frozen=True)
class Endpoint:
    """What is measured: one metric of one task, or its mean over tasks that weigh equally.

    Attributes:
        name: of the task, or of the average.
        tasks: one, or those that are averaged.
        metric: as in the frame.
        scale: ``nats`` also has a perplexity; ``share`` is an accuracy between 0 and 1.
        higher_is_better: direction of the metric.
        kind: ``text`` and ``benchmark`` lie outside the fine-tuning data, ``id`` inside.
        of: the curves that it is of: those at a ``fixed`` or a ``tuned`` learning rate, or ``all``.
    """

    name: str
    tasks: tuple[str, ...]
    metric: str
    scale: Scale
    higher_is_better: bool
    kind: Literal["text", "benchmark", "id"]
    of: Literal["all", "fixed", "tuned"] = "all"

    def concerns(self, line: Line) -> bool:
        """Whether ``line`` has this score at all: what is in distribution, only fine-tuned models have."""
        if self.kind == "id" and line.kind in {"base", "noise"}:
            return False
        return self.of == "all" or line.tuned == (self.of == "tuned")

    @property
    def average(self) -> bool:
        """Whether several tasks are averaged."""
        return len(self.tasks) > 1

    @property
    def unit(self) -> str:
        """Metric with its unit, for an axis."""
        return _UNITS.get(self.metric, self.metric.replace("_", " "))

    @property
    def quantity(self) -> str:
        """What the oriented score is, for a sentence: lower is better."""
        if self.metric == "win_rate":
            return f"100 - win rate (%) on {self.name}"
        if self.kind == "id":
            return f"{self.metric} of {self.name}"
        return f"1 - {self.metric} on {self.name}" if self.higher_is_better else f"{self.unit} on {self.name}"


def endpoints(frame: pd.DataFrame, scored: Sequence[tuple[str, str]]) -> list[Endpoint]:
    """Return what a study measures outside training: texts, averages over benchmarks, single benchmarks, then win rates.

    A task with an accuracy is a benchmark, any other task with a likelihood a text. Rows of groups (a task without scores
    per document beside tasks that have them) are means of other rows and are left to `overtrain.analysis.long`.

    Args:
        frame: of the study.
        scored: task and metric of every set of scores per document; empty where there are none.
    """
    known = frame[frame["task"].notna() & (frame["task"] != TRAINING)]
    direction = known.dropna(subset=["higher_is_better"]).groupby(["task", "metric"])["higher_is_better"].first()
    pairs = [(str(t), str(m)) for t, m in direction.index if not scored or (t, m) in set(scored)]
    by_task: dict[str, list[str]] = {}
    for task, metric in pairs:
        by_task.setdefault(task, []).append(metric)

    def one(task: str, metric: str, kind: Literal["text", "benchmark", "id"]) -> Endpoint:
        return Endpoint(task, (task,), metric, _scale(metric), bool(direction[task, metric]), kind)

    texts, single, average = [], [], []
    benchmarks = [t for t in by_task if any(m in ACCURACIES for m in by_task[t])]
    for task, having_metrics in by_task.items():
        likelihoods = [m for m in _LIKELIHOODS if m in having_metrics]
        if task not in benchmarks and likelihoods:
            texts.append(one(task, likelihoods[0], "text"))
    for metric in ("bits_per_byte", *ACCURACIES):
        having = [t for t in benchmarks if metric in by_task[t]]
        single += [one(t, metric, "benchmark") for t in having]
        if len(having) > 1:
            first = one(having[0], metric, "benchmark")
            average.append(replace(first, name=f"average of {len(having)} benchmarks", tasks=tuple(having)))
    judged = [one(TASK, "win_rate", "id")] if "win_rate" in by_task.get(TASK, []) else []
    return [*texts, *average, *single, *judged]


def told_apart(found: Sequence[Endpoint], select: Mapping[str, Any]) -> list[Endpoint]:
    """Return the endpoints with the win rate split in two where tuned curves are selected on the very win rates they report."""
    if select.get("how") != "reported":
        return list(found)
    apart: list[Endpoint] = []
    for endpoint in found:
        if endpoint.kind == "id":
            biased = f"{endpoint.name} ({BIASED})"
            apart += [replace(endpoint, of="fixed"), replace(endpoint, name=biased, of="tuned")]
        else:
            apart.append(endpoint)
    return apart


def _scale(metric: str) -> Scale:
    known: dict[str, Scale] = {"nll_per_token": "nats", "validation_loss": "nats", "bits_per_byte": "bits"}
    return known.get(metric, "share" if metric in ACCURACIES else "other")


def main_endpoints(found: Sequence[Endpoint]) -> list[Endpoint]:
    """Return the endpoints that every curve is read on: texts and averages; single benchmarks where there are neither."""
    main = [e for e in found if e.kind == "text" or e.average]
    return main or [e for e in found if e.kind != "id"] or list(found)
