"""What a study measures: texts, benchmarks, averages over them, win rates, and the metric that selects learning rates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from overtrain.results.metrics import TRAINING
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from overtrain.study.settings import Selection

__all__ = ["ACCURACIES", "BIASED", "Measure", "main_measures", "measures", "selection_measure", "with_biased_win_rates"]

Scale = Literal["nats", "bits", "share", "other"]
Kind = Literal["text", "benchmark", "in_distribution"]

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
class Measure:
    """What is measured: one metric of one task, or its mean over tasks that weigh equally.

    Attributes:
        name: of the task, or of the average.
        tasks: one, or those that are averaged.
        metric: as in the frame.
        scale: ``nats`` also has a perplexity; ``share`` is an accuracy between 0 and 1.
        higher_is_better: direction of the metric.
        kind: ``text`` and ``benchmark`` lie outside the fine-tuning data, ``in_distribution`` inside.
        covers: the curves that have it: those at a ``fixed`` or at a ``tuned`` learning rate, or ``all``.
        selects: whether this is the metric that selects learning rates. It is reported beside the others.
    """

    name: str
    tasks: tuple[str, ...]
    metric: str
    scale: Scale
    higher_is_better: bool
    kind: Kind
    covers: Literal["all", "fixed", "tuned"] = "all"
    selects: bool = False

    @property
    def outside(self) -> bool:
        """Whether it lies outside the fine-tuning data."""
        return self.kind != "in_distribution"

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
        if not self.outside:
            return f"{self.metric} of {self.name}"
        return f"1 - {self.metric} on {self.name}" if self.higher_is_better else f"{self.unit} on {self.name}"


def measures(frame: pd.DataFrame, scored: Sequence[tuple[str, str]]) -> list[Measure]:
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

    def one(task: str, metric: str, kind: Kind) -> Measure:
        return Measure(task, (task,), metric, _scale(metric), bool(direction[task, metric]), kind)

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
    judged = [one(TASK, "win_rate", "in_distribution")] if "win_rate" in by_task.get(TASK, []) else []
    return [*texts, *average, *single, *judged]


def with_biased_win_rates(found: Sequence[Measure], select: Selection) -> list[Measure]:
    """Return the measures with the win rate split in two where tuned curves are selected on the win rates they report.

    The curves at fixed learning rates keep the win rate as it is. The tuned curves have one whose name says `BIASED`.
    """
    if select.how != "reported":
        return list(found)
    split: list[Measure] = []
    for measure in found:
        if measure.outside:
            split.append(measure)
        else:
            name = f"{measure.name} ({BIASED})"
            split += [replace(measure, covers="fixed"), replace(measure, name=name, covers="tuned")]
    return split


def selection_measure(frame: pd.DataFrame, select: Selection) -> Measure:
    """Return the metric that selects the learning rate: the study's ``select``."""
    metric, task = select.metric, select.task
    rows = frame[(frame["task"] == task) & (frame["metric"] == metric)]
    higher = bool(rows["higher_is_better"].dropna().any()) if task != TRAINING else False
    name = "the fine-tuning data" if task == TRAINING else task
    scale: Scale = "nats" if metric == "validation_loss" else "other"
    return Measure(name, (task,), metric, scale, higher, "in_distribution", selects=True)


def _scale(metric: str) -> Scale:
    known: dict[str, Scale] = {"nll_per_token": "nats", "validation_loss": "nats", "bits_per_byte": "bits"}
    return known.get(metric, "share" if metric in ACCURACIES else "other")


def main_measures(found: Sequence[Measure]) -> list[Measure]:
    """Return the measures that every curve is read on: texts and averages; single benchmarks where there are neither."""
    main = [m for m in found if m.kind == "text" or m.average]
    return main or [m for m in found if m.outside] or list(found)
