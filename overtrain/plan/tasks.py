"""The tasks of a study's cells, with their requests already built.

The planner hashes the requests, and the evaluation sends them to the model. A process builds the requests of a set of tasks
once, even if it does both.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from model_wrappers.compat import mend_groups, warn_if_untried
from model_wrappers.errors import ConfigError, close_match
from model_wrappers.generation.options import GenerateOptions
from model_wrappers.identity import RequestDigest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SEEDS", "BuiltTasks", "built_tasks", "task_manager", "unknown_task"]

SEEDS = (0, 1234, 1234, 1234)
"""Seeds of Python, numpy, torch and the few-shot sampler; these are lm-eval's defaults."""


@functools.lru_cache(maxsize=4)
def built_tasks(tasks: tuple[str, ...], settings: str, tasks_stamp: str) -> BuiltTasks:  # noqa: ARG001
    """Return the `BuiltTasks` of this process. Requests are built again only if one of the arguments has changed.

    Args:
        tasks: names of tasks or groups.
        settings: `Job.settings`.
        tasks_stamp: `Job.tasks_stamp`; it changes when the files behind the requests change.

    Raises:
        ConfigError: there is no such task.
        DataError: evaluation rows are missing or malformed.
    """
    return BuiltTasks(tasks, json.loads(settings))


class BuiltTasks:
    """lm-eval's tasks with their requests.

    Attributes:
        settings: see `overtrain.plan.jobs.Job.settings`.
        loaded: what lm-eval's ``TaskManager.load`` returned: tasks and groups by name.

    Args:
        tasks: names of tasks or groups.
        settings: see above.

    Raises:
        ConfigError: there is no such task, or a task has no documents.
        DataError: evaluation rows are missing or malformed.
    """

    def __init__(self, tasks: tuple[str, ...], settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.loaded = _load(tasks, settings)
        for name, task in self.loaded["tasks"].items():
            _few_shot(task, settings["num_fewshot"])
            _build_once(task, settings["limit"])
            if settings["limit"] is None and not task.instances:
                raise ConfigError(f"{name}: has no documents; name a task that has")

    @functools.cached_property
    def requests(self) -> dict[str, str]:
        """Task -> sha256 of its requests; the model computes the same digests when it is evaluated."""
        digest = RequestDigest()
        generated = GenerateOptions(generate_backend=self.settings.get("generate_backend", "hf")).request_kind
        for task in self.loaded["tasks"].values():
            for request in task.instances:
                kind = generated if request.request_type == "generate_until" else request.request_type
                digest.add(kind, [request])
        return digest.by_task()


def task_manager(tasks: Sequence[str], settings: Mapping[str, Any]) -> Any:
    """Return lm-eval's ``TaskManager``. lm-eval's own tasks are indexed (5 s) only if one of them is asked for.

    Args:
        tasks: names of tasks or groups.
        settings: with ``include_path``, ``metadata`` and ``text_file``; see `overtrain.plan.jobs.Job.settings`.
    """
    import lm_eval.models  # noqa: F401  (lm-eval fills its registry only while it is empty, so before we register)
    from lm_eval.tasks import TaskManager

    import overtrain_tasks

    warn_if_untried()
    paths = [str(overtrain_tasks.path()), *([settings["include_path"]] if settings["include_path"] else [])]
    metadata = dict(settings["metadata"])
    if settings["text_file"]:
        metadata["text_file"] = settings["text_file"]
    manager = TaskManager(include_defaults=False, include_path=paths, metadata=metadata)
    if any(task not in manager.all_tasks for task in tasks):
        manager = TaskManager(include_path=paths, metadata=metadata)
    return manager


def unknown_task(task: str, manager: Any) -> str:
    """Return the message about a name that is no task, an empty text for one that is."""
    if task in manager.all_tasks:
        return ""
    near = close_match(task, manager.all_tasks)
    return f"tasks: no task {task!r}{near}; `lm_eval ls tasks` and `overtrain tasks` show what there is"


def _load(tasks: tuple[str, ...], settings: Mapping[str, Any]) -> Any:
    """Return tasks and groups by name."""
    manager = task_manager(tasks, settings)
    for task in tasks:
        if problem := unknown_task(task, manager):
            raise ConfigError(problem)
    loaded = manager.load(list(tasks))
    mend_groups(loaded["groups"])
    return loaded


def _few_shot(task: Any, number: int | None) -> None:
    """Set the number of few-shot examples as ``simple_evaluate`` does: a task with a fixed 0 keeps 0."""
    own = task.get_config("num_fewshot")
    if own is None or (number is not None and own != 0):
        task.set_config(key="num_fewshot", value=number or 0)
    task.set_fewshot_seed(seed=SEEDS[3])


def _build_once(task: Any, limit: int | None) -> None:
    """Build the task's requests now. lm-eval's call before every evaluation then only clears the earlier responses."""
    from model_wrappers.processes import join, world

    join()
    rank, processes = world()
    task.build_all_requests(limit=limit, rank=rank, world_size=processes)

    def clear(**_: Any) -> None:
        for request in task.instances:
            request.resps = []
            request.filtered_resps = {}

    task.build_all_requests = clear
