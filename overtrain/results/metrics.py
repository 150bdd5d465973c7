"""Turns lm-eval's results into a cell's results: tidy rows of metrics, and one number per document."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from overtrain.results.record import MetricRow
from overtrain.study.settings import TRAINING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["TRAINING", "document_columns", "metric_rows", "split_key", "training_rows"]

_RATIOS = {"bits_per_byte": 1 / math.log(2), "nll_per_token": 1.0}
"""Metrics that are sums over sums, and their unit in nats; a document's value is per its own bytes or tokens."""

_NO_METRIC = frozenset({"alias", "name", "sample_len", "sample_count"})


def metric_rows(results: Mapping[str, Any]) -> list[MetricRow]:
    """Return one row per task (or group) and metric of lm-eval's ``results``.

    The metric is lm-eval's name, with its filter behind a comma unless that is ``none``.
    """
    rows = []
    counts = results.get("n-samples", {})
    for task, found in results["results"].items():
        better = results.get("higher_is_better", {}).get(task, {})
        for key, value in found.items():
            name, metric, stderr = split_key(key)
            if key in _NO_METRIC or stderr or not isinstance(value, int | float):
                continue
            error = found.get(key.replace(name, f"{name}_stderr", 1))
            rows.append(
                MetricRow(
                    task=task,
                    metric=metric,
                    value=float(value),
                    stderr=float(error) if isinstance(error, int | float) else None,
                    n_documents=counts.get(task, {}).get("effective"),
                    higher_is_better=better.get(name),
                )
            )
    return rows


def split_key(key: str) -> tuple[str, str, bool]:
    """Return lm-eval's name of a metric, our name of it, and whether it is a standard error.

    >>> split_key("acc,none"), split_key("exact_match,strict-match"), split_key("acc_stderr,none")
    (('acc', 'acc', False), ('exact_match', 'exact_match,strict-match', False), ('acc_stderr', 'acc_stderr', True))
    """
    name, _, chosen = key.partition(",")
    return name, name if chosen in {"", "none"} else key, name.endswith("_stderr")


def training_rows(steps: Sequence[Mapping[str, float]]) -> list[MetricRow]:
    """Return one row per metric of every step: train_loss, validation_loss, distance, ...

    A metric ``m_stderr`` is the standard error of ``m``; what a later step reports too gets the suffix ``_2`` (``_3``, ...).
    """
    rows: dict[str, MetricRow] = {}
    for place, metrics in enumerate(steps, start=1):
        for name, value in metrics.items():
            if name.endswith("_stderr"):
                continue
            metric = name if name not in rows else f"{name}_{place}"
            rows[metric] = MetricRow(
                task=TRAINING,
                metric=metric,
                value=value,
                stderr=metrics.get(f"{name}_stderr"),
                higher_is_better=False if "loss" in name else None,
            )
    return list(rows.values())


def document_columns(
    samples: Mapping[str, Sequence[Mapping[str, Any]]], is_mean: Callable[[str, str], bool]
) -> dict[str, list[Any]]:
    """Return task, metric, document, value and weight as columns, one row per document of every metric that has such.

    ``sum(value * weight) / sum(weight)`` over a metric's rows is the metric: metrics that are means of documents have the
    weight 1, `bits_per_byte` and `nll_per_token` of whole texts weigh by bytes and tokens. Others (perplexities, F1) have no
    value per document and are left out.

    Args:
        samples: lm-eval's, by task.
        is_mean: whether a task aggregates a metric by the plain mean.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("task", "metric", "document", "value", "weight")}
    for task, logged in samples.items():
        for sample in logged:
            for name in sample["metrics"]:
                found = _score(name, sample[name], mean=is_mean(task, name))
                if found is None:
                    continue
                columns["task"].append(task)
                columns["metric"].append(split_key(f"{name},{sample['filter']}")[1])
                columns["document"].append(int(sample["doc_id"]))
                columns["value"].append(found[0])
                columns["weight"].append(found[1])
    return columns


def _score(name: str, value: Any, *, mean: bool) -> tuple[float, float] | None:
    """Return a document's value and weight; None if the metric has none."""
    if name in _RATIOS and isinstance(value, list | tuple) and len(value) == 2:
        loglikelihood, units = float(value[0]), float(value[1])
        return -loglikelihood * _RATIOS[name] / units, units
    if mean and isinstance(value, int | float):  # True counts 1
        return float(value), 1.0
    return None
