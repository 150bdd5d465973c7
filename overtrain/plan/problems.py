"""What is wrong with a study that its file alone does not show: data, checkpoints, tasks and metrics. Nothing is downloaded."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

from model_wrappers.checkpoints.fingerprints import sample_of
from model_wrappers.errors import OvertrainError, close_match
from model_wrappers.identity import digest
from overtrain.plan.located import checkpoint_of
from overtrain.plan.tasks import task_manager, unknown_task
from overtrain.study.checks import own_tasks
from overtrain.study.settings import TRAINING
from overtrain.study.study import BASE
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from model_wrappers.modifications.base import Modification
    from overtrain.study.study import Point, Study, Variant

__all__ = ["study_problems", "study_remarks"]

_JUDGED = ("win_rate", "length_controlled_win_rate")


def study_problems(study: Study) -> Iterator[tuple[str, str]]:
    """Yield the key of the file and the message of everything that would fail later and can be known now."""
    yield from _of_checkpoints(study)
    for variant, modification, checkpoint in _applied(study):
        for text in modification.problems(checkpoint):
            yield f"modifications.{variant.name}", f"{variant.name}: {text}"
    yield from _of_tasks(study)


def study_remarks(study: Study) -> list[str]:
    """Return what is worth knowing before anything is spent, though nothing fails."""
    found = []
    for variant in study.variants:
        if len(variant.seeds) > 1:
            said = [text for v, m, c in _applied(study) if v is variant for text in m.remarks(c)]
            found += [f"variant {variant.name}: {text}" for text in said]
    return list(dict.fromkeys(found))


def _applied(study: Study) -> Iterator[tuple[Variant, Modification, Checkpoint | None]]:
    """Yield every modification that changes something, with every checkpoint."""
    where = [None if point.ladder is not None else checkpoint_of(point) for point in study.points]
    places = list(dict.fromkeys(where))
    for variant in study.variants:
        for modification in dict.fromkeys(m for steps in variant.grid for m in steps if not m.is_neutral()):
            for checkpoint in places:
                yield variant, modification, checkpoint


def _of_checkpoints(study: Study) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with folders of this machine, and which of them are the same weights."""
    points = {digest(p.spec()): p for p in (*study.points, *(t.point for t in study.tuned))}
    alike: dict[str, list[Point]] = {}
    for point in (p for p in points.values() if p.local and p.ladder is None):
        checkpoint = checkpoint_of(point)
        try:
            checkpoint.verify()
            checkpoint.config()
            sample = digest(sorted(sample_of(path) for path in checkpoint.weight_paths()))
        except (OvertrainError, OSError) as error:
            yield "checkpoints", f"{point.label}: {error}"
            continue
        alike.setdefault(sample, []).append(point)
    for group in (points for points in alike.values() if len(points) > 1):
        yield from _same_weights(group)


def _same_weights(points: Sequence[Point]) -> Iterator[tuple[str, str]]:
    first: dict[str, Point] = {}
    for point in points:
        other = first.setdefault(checkpoint_of(point).fingerprint(), point)
        if other is not point:
            text = (
                f"{other.label} and {point.label} are the same weights, byte by byte, so at least one of them is not what "
                "its name says; remove one from the study"
            )
            yield "checkpoints", text


def _of_tasks(study: Study) -> Iterator[tuple[str, str]]:
    """Yield tasks that there are not, and metrics that no task of the study measures.

    lm-eval is asked only if a name is not ours, or the metric of a task is named: its import takes seconds.
    """
    wanted = [("primary", study.primary.task, study.primary.metric, study.primary.variant)] if study.primary else []
    if study.select.how == "metric" and (study.select.task != TRAINING or _selecting(study)):
        wanted.append(("select", study.select.task, study.select.metric, ""))
    evaluation = study.evaluation
    if set(study.tasks) <= own_tasks(evaluation.include_path) and all(task == TRAINING for _, task, _, _ in wanted):
        manager, there = None, []
    else:
        settings = {"include_path": evaluation.include_path, "metadata": evaluation.metadata, "text_file": None}
        manager = task_manager(study.tasks, settings)
        yield from (("tasks", problem) for task in study.tasks if (problem := unknown_task(task, manager)))
        there = _members((t for t in study.tasks if t in manager.all_tasks), manager)
    for key, task, metric, variant in wanted:
        if task != TRAINING and task not in there:
            near = close_match(task, [*there, TRAINING])
            yield f"{key}.task", f"{key}.task={task!r}: the study does not measure it{near} (there: {_some(there)})"
            continue
        known = _training_metrics(study, variant) if task == TRAINING else _metrics(task, manager)
        if known and re.sub(r"(,.*|_\d+)$", "", metric) not in known:
            near = close_match(metric, known)
            yield f"{key}.metric", f"{key}.metric={metric!r}: {task} has no such metric{near} (there: {_some(known)})"


def _selecting(study: Study) -> list[Variant]:
    """Return the variants with a field that the study selects per checkpoint."""
    return [
        v for v in study.variants if any(axis.selected and axis.field in v.axes for m in v.grid[0] for axis in m.axes)
    ]


def _training_metrics(study: Study, variant: str) -> set[str]:
    """Return what the modifications measure; empty if one of them does not say."""
    chosen = [v for v in study.variants if v.name == variant] if variant else _selecting(study)
    declared = [m.metrics for v in chosen for m in v.grid[0]]
    return set().union(*declared) if all(declared) and variant != BASE else set()


def _members(tasks: Iterable[str], manager: Any) -> list[str]:
    """Return tasks and groups with everything that groups and tags contain."""
    found: dict[str, None] = {}
    waiting = list(tasks)
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found[name] = None
        inner = (manager.task_index[name].cfg or {}).get("task") if name in manager.task_index else None
        waiting += (
            [str(i.get("task")) if isinstance(i, dict) else str(i) for i in inner] if isinstance(inner, list) else []
        )
        waiting += [other for other, entry in manager.task_index.items() if name in entry.tags and other != name]
    return list(found)


def _metrics(task: str, manager: Any) -> set[str]:
    """Return the metrics that a task's or group's file declares; empty if that cannot be told."""
    entry = manager.task_index.get(task)
    config = (entry.cfg or {}) if entry is not None else {}
    listed = config.get("aggregate_metric_list") if "group" in config else config.get("metric_list")
    if not isinstance(listed, list):
        return set()
    names = {_name(item.get("metric")) for item in listed if isinstance(item, dict)}
    own = _own_metrics(str(config.get("class", "")))
    if own is None or "" in names:
        return set()
    return names | own | (set(_JUDGED) if task == TASK else set())


def _own_metrics(path: str) -> set[str] | None:
    """Return what the class of a task adds to the metrics of its file; None for a class of others, which may add any."""
    name = path.rpartition("/")[2]
    if not name:
        return set()
    module, _, cls = name.rpartition(".")
    if not module.startswith("overtrain_tasks."):
        return None
    return set(getattr(importlib.import_module(module), cls).OWN_METRICS)


def _name(metric: object) -> str:
    """Return a metric's name: as written, or that of the function that computes it."""
    return str(getattr(metric, "__name__", metric or "")).rpartition(".")[2]


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:12]) + (f" and {len(ordered) - 12} more" if len(ordered) > 12 else "")
