"""Evaluates one cell in this process with lm-eval; cells share their tasks, requests and base weights.

A `Session` keeps the tasks with their requests already built, and the weights of the last base model. What comes out is
lm-eval's results JSON, as ``simple_evaluate`` would have put it together.
"""

from __future__ import annotations

import functools
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from model_wrappers.errors import DataError
from overtrain.plan.tasks import SEEDS, built_tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overtrain.plan.jobs import Job
    from overtrain.plan.tasks import BuiltTasks
    from overtrain.run.lm import HeldWeights

__all__ = ["Outcome", "Session", "session"]

BOOTSTRAP = 1000
"""Resamples for the standard error of metrics that have no closed form; those that are means have one."""


class Outcome(NamedTuple):
    """What one cell measured.

    Attributes:
        results: lm-eval's, without samples.
        samples: lm-eval's, by task.
        steps: fields, metrics and record of every modification, in order.
        environment: the machine and the versions.
        means: (task, metric) of what is a plain mean over documents.
    """

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]
    steps: list[dict[str, Any]]
    environment: dict[str, Any]
    means: frozenset[tuple[str, str]]


@functools.lru_cache(maxsize=4)
def session(tasks: tuple[str, ...], settings: str, tasks_stamp: str) -> Session:
    """Return the process's session for ``tasks``.

    Args:
        tasks: names of tasks or groups.
        settings: `Job.settings`.
        tasks_stamp: `Job.tasks_stamp`.

    Raises:
        OvertrainError: as `built_tasks`.
    """
    return Session(built_tasks(tasks, settings, tasks_stamp))


class Session:
    """Tasks with their requests, and what else cells of one process share."""

    def __init__(self, built: BuiltTasks) -> None:
        self._built = built
        self._held: HeldWeights | None = None

    def evaluate(self, job: Job) -> Outcome:
        """Load, modify and score the job's model.

        Raises:
            OvertrainError: as the model and the modification raise.
            DataError: what was evaluated is not what the job said.
        """
        from lm_eval import evaluate

        started = time.time()
        _seed()
        model = self._model(job)
        results = evaluate(
            model,
            self._built.loaded,
            limit=self._built.settings["limit"],
            bootstrap_iters=BOOTSTRAP,
            log_samples=True,
        )
        if results is None:  # not the first of several processes
            return Outcome({}, {}, [], {}, frozenset())
        samples = results.pop("samples")
        results |= self._about(job, model, started)
        _check(job, results["config"]["overtrain"])
        means = {
            (name, metric)
            for name, task in self._built.loaded["tasks"].items()
            for metric, function in task.aggregation().items()
            if getattr(function, "__name__", "") == "mean"
        }
        steps = [step._asdict() for step in model.steps]
        del model
        _free()
        return Outcome(dict(results), samples, steps, _environment(), frozenset(means))

    def _model(self, job: Job) -> Any:
        from overtrain.run.lm import CellLM, HeldWeights

        if job.reuse_base and self._held is None:
            self._held = HeldWeights()
        where = {"revision": job.point.revision} if not job.point.local else {}
        return CellLM(
            pretrained=job.repo,
            subfolder=job.point.subfolder,
            tokens=job.point.tokens,
            modifications=job.cell.modifications,
            held=self._held if job.reuse_base else None,
            dtype=self._built.settings["dtype"],
            batch_size=job.cell.evaluation.batch_size,
            device=job.cell.evaluation.device or _device(),
            trust_remote_code=job.cell.evaluation.trust_remote_code,
            generate_backend=job.cell.evaluation.generate_backend,
            **where,
        )

    def _about(self, job: Job, model: Any, started: float) -> dict[str, Any]:
        """Return what ``simple_evaluate`` adds to the results: model, settings, versions, tokenizer."""
        from lm_eval.loggers.utils import add_tokenizer_info

        evaluation = job.cell.evaluation
        arguments = {"pretrained": job.repo, "revision": job.point.revision}
        config: dict[str, Any] = {"model": "overtrain", "model_args": arguments}
        config |= model.get_model_info()
        config |= {
            "batch_size": evaluation.batch_size,
            "batch_sizes": list(model.batch_sizes.values()),
            "device": str(model.device),
            "use_cache": None,
            "limit": evaluation.limit,
            "bootstrap_iters": BOOTSTRAP,
            "gen_kwargs": None,
            "random_seed": SEEDS[0],
            "numpy_seed": SEEDS[1],
            "torch_seed": SEEDS[2],
            "fewshot_seed": SEEDS[3],
        }
        about: dict[str, Any] = {"config": config, "date": started, **_environment()}
        add_tokenizer_info(about, model)
        return about


def _check(job: Job, found: Mapping[str, Any]) -> None:
    """Refuse results that do not belong to the job.

    Raises:
        DataError: weights, rows or dtype are not those that the cell was planned with.
    """
    if found["cell_id"] == job.cell_id:
        return
    pairs = {
        "weights": (found["weights_id"], job.weights_id),
        "requests": (found["requests_sha256"], job.requests),
        "dtype": (found["dtype"], job.dtype),
        "tokenizer": (found["tokenizer_sha256"], job.tokenizer),
    }
    changed = ", ".join(name for name, (one, other) in pairs.items() if one != other) or "the version of lm-eval"
    raise DataError(
        f"{job.cell.label}: {changed} changed between planning and evaluation, so the result belongs to no cell; run the "
        "study again when nothing writes to its checkpoints and data"
    )


@functools.cache
def _environment() -> dict[str, Any]:
    """Return lm-eval's description of machine and versions. It is made once per process, because it runs ``pip list``."""
    from lm_eval.loggers.utils import add_env_info, get_git_commit_hash

    about: dict[str, Any] = {"git_hash": get_git_commit_hash()}
    add_env_info(about)
    return about


def _seed() -> None:
    import numpy as np
    from lm_eval.utils import set_torch_seed

    random.seed(SEEDS[0])
    np.random.seed(SEEDS[1])  # noqa: NPY002  (the global one, as lm-eval seeds it)
    set_torch_seed(SEEDS[2])


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _free() -> None:
    """Free an accelerator's memory before the next model is loaded."""
    import torch

    if torch.cuda.is_available():
        import gc

        gc.collect()
        torch.cuda.empty_cache()
