"""Jobs on a Ray cluster: one task per cell, started again on another node when one is lost. Needs the extra ``[cluster]``."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, StoreError
from overtrain.results.store import Store
from overtrain.run.cell import spec_file
from overtrain.run.executors.base import JobOutcome
from overtrain.run.executors.here import HereExecutor

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from overtrain.plan.jobs import Job
    from overtrain.run.cell import CellRunner
    from overtrain.run.executors.base import JobStatus
    from overtrain.study.settings import CellResources

__all__ = ["RayExecutor"]

_VARIABLES = (
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "OVERTRAIN_CACHE",
    "OVERTRAIN_DATA",
    "OVERTRAIN_FEWSHOT_SPLIT",
    "OVERTRAIN_VLLM_PYTHON",
)


@dataclass(frozen=True)
class RayExecutor:
    """Runs jobs as Ray tasks with the study's resources per cell.

    A worker process serves many cells one after the other, so requests and base weights are reused as on one machine. A task
    whose node or process is lost is started again elsewhere, ``resources: {retries: N}`` times; then the cell is stored as
    failed. Every node must see the study's folder under the same path.

    Attributes:
        runner: runs the cells on the nodes.
        address: ``local`` for this machine, else the address of a running cluster (``auto``, ``HOST:PORT``,
            ``ray://HOST:PORT``).
    """

    runner: CellRunner
    address: str

    def run(self, jobs: Sequence[Job]) -> Generator[JobOutcome]:
        """Run every job as a task.

        Raises:
            ConfigError: Ray is not installed, or no node has what a cell needs.
            StoreError: a node cannot write into the study's folder.
            KeyboardInterrupt: Ctrl-C was pressed; running cells are cancelled.
        """
        ray = _ray()
        resources = self.runner.study.resources
        here = not ray.is_initialized()
        if here:
            where = {"include_dashboard": False} if self.address == "local" else {"address": self.address}
            ray.init(log_to_driver=False, logging_level="warning", **where)
        waiting: dict[Any, Job] = {}
        try:
            _check_resources(ray, resources)
            environment = {name: value for name in _VARIABLES if (value := os.environ.get(name))}
            common = ray.put((self.runner.absolute(), environment))
            task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=resources.retries)(_run)
            waiting = {task.remote(dataclasses.replace(job, root=job.root.resolve()), common): job for job in jobs}
            yield from _collect(ray, waiting)
        finally:
            for reference in waiting:
                ray.cancel(reference)
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


def _check_resources(ray: Any, resources: CellResources) -> None:
    need = {"CPU": resources.cpus, "GPU": resources.gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(have.get(name, 0) >= amount for name, amount in need.items() if amount) for have in nodes):
        there = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ConfigError(
            f"resources: cpus={resources.cpus:g}, gpus={resources.gpus:g}: no node has that (nodes: {there}); "
            "lower them in the study or start larger nodes"
        )


def _collect(ray: Any, waiting: dict[Any, Job]) -> Iterator[JobOutcome]:
    """Yield the outcome of every task as it ends, and remove the task from ``waiting``."""
    while waiting:
        ended, _ = ray.wait(list(waiting), num_returns=1, timeout=5.0)
        for reference in ended:
            job = waiting.pop(reference)
            try:
                status = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, StoreError):
                    raise error.cause from error
                raise
            except ray.exceptions.RayError as error:  # node or process lost too often, or out of memory
                status = _store_lost(job, error)
            yield JobOutcome(job, status)


def _store_lost(job: Job, error: Exception) -> JobStatus:
    """Store a cell as failed if its workers died, unless another process runs it or has finished it."""
    store = Store(job.root)
    with store.claim(job.cell_id) as ours:
        if ours and store.state(job.cell_id).status == "done":
            return "skipped"
        if ours:
            text = f"{type(error).__name__}: {error}"
            store.write(job.cell_id, {"spec.json": spec_file(job)}, "failed", started=time.time(), error=text)
    return "failed"


def _run(job: Job, common: tuple[CellRunner, dict[str, str]]) -> JobStatus:
    """Run one job in a Ray worker; a cell that another process holds is waited for."""
    runner, environment = common
    os.environ.update(environment)
    (outcome,) = HereExecutor(runner).run([job])
    return outcome.status
