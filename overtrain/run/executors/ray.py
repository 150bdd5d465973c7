"""Cells on a Ray cluster: one task per cell, retried on another node when one is lost. Needs the extra ``[cluster]``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, StoreError
from overtrain.results.store import Store
from overtrain.run.cell import run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from overtrain.plan.jobs import Job
    from overtrain.study.study import Study

__all__ = ["run_on_ray"]

_VARIABLES = (
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "OVERTRAIN_CACHE",
    "OVERTRAIN_DATA",
    "OVERTRAIN_FEWSHOT_SPLIT",
    "OVERTRAIN_VLLM_PYTHON",
)


def run_on_ray(
    pending: Sequence[Job],
    study: Study,
    jobs: Sequence[Job],
    address: str,
    ended: Callable[[str, str], None],
    *,
    retry_failed: bool = False,
) -> int:
    """Run ``pending`` as Ray tasks with the study's resources per cell; return how many were evaluated.

    A worker process serves many cells one after the other, so requests and base weights are reused as on one machine.
    A task whose node or process is lost is started again elsewhere, ``resources: {retries: N}`` times; then the cell is
    stored as failed. Every node must see the study's folder under the same path.

    Args:
        pending: what to run.
        study: that they belong to.
        jobs: all of the study.
        address: ``local`` for this machine, else of a running cluster (``auto``, ``HOST:PORT``, ``ray://HOST:PORT``).
        ended: called with status and label of every cell.
        retry_failed: run failed cells again.

    Raises:
        ConfigError: Ray is not installed, or no node has what a cell needs.
        StoreError: a node cannot write into the study's folder.
        KeyboardInterrupt: as pressed; running cells are cancelled.
    """
    ray = _ray()
    here = not ray.is_initialized()
    if here:
        where = {"include_dashboard": False} if address == "local" else {"address": address}
        ray.init(log_to_driver=False, logging_level="warning", **where)
    waiting: dict[Any, Job] = {}
    try:
        _check_resources(ray, study)
        environment = {name: value for name in _VARIABLES if (value := os.environ.get(name))}
        root = {job.cell_id: _absolute(job) for job in [*pending, *jobs]}
        common = ray.put((study, [root[job.cell_id] for job in jobs], environment, retry_failed))
        task = ray.remote(
            num_cpus=study.resources.cpus, num_gpus=study.resources.gpus, max_retries=study.resources.retries
        )(_run)
        waiting = {task.remote(root[job.cell_id], common): job for job in pending}
        return _collect(ray, waiting, ended)
    except KeyboardInterrupt:
        for reference in waiting:
            ray.cancel(reference)
        raise
    finally:
        if here:
            ray.shutdown()


def _ray() -> Any:
    # Ray would hide accelerators from a task that asks for none, which is right, and warns that this will change.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray needs Ray; install it with: pip install 'lm-eval-overtrain[cluster]'") from error
    return ray


def _check_resources(ray: Any, study: Study) -> None:
    need = {"CPU": study.resources.cpus, "GPU": study.resources.gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(have.get(name, 0) >= amount for name, amount in need.items() if amount) for have in nodes):
        there = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ConfigError(
            f"resources: cpus={study.resources.cpus:g}, gpus={study.resources.gpus:g}: no node has that (nodes: {there}); "
            "lower them in the study or start larger nodes"
        )


def _collect(ray: Any, waiting: dict[Any, Job], ended: Callable[[str, str], None]) -> int:
    ran = 0
    left = list(waiting)
    while left:
        finished, left = ray.wait(left, num_returns=1, timeout=5.0)
        for reference in finished:
            job = waiting[reference]
            try:
                status = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, StoreError):
                    raise error.cause from error
                raise
            except ray.exceptions.RayError as error:  # node or process lost too often, out of memory
                status = _lost(job, error)
            ran += status in {"done", "failed"}
            ended(status, job.cell.label)
    return ran


def _lost(job: Job, error: Exception) -> str:
    """Store a cell that no worker survived as failed."""
    import json

    store = Store(job.root)
    with store.claim(job.cell_id) as ours:
        if ours and store.state(job.cell_id).status != "done":
            spec = {"cell_id": job.cell_id, "identity": job.identity, "key": job.cell.key, "label": job.cell.label}
            files = {"spec.json": json.dumps(spec | {"spec": job.cell.spec}, indent=1).encode()}
            store.write(job.cell_id, files, "failed", started=time.time(), error=f"{type(error).__name__}: {error}")
    return "failed"


def _run(job: Job, common: tuple[Study, list[Job], dict[str, str], bool]) -> str:
    """Run one job in a Ray worker; a cell that another process holds is waited for."""
    study, jobs, environment, retry_failed = common
    os.environ.update(environment)
    while True:
        status = run_job(job, study, jobs, retry_failed=retry_failed)
        if status != "elsewhere":
            return status
        time.sleep(1.0)


def _absolute(job: Job) -> Job:
    """Return the job with its folder as an absolute path: workers have another working directory."""
    import dataclasses

    return dataclasses.replace(job, root=Path(job.root).resolve())
