"""Runs one cell of a sweep and stores its result."""

from __future__ import annotations

import dataclasses
import json
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from model_wrappers.errors import DivergedError, StoreError
from overtrain.common.captured import captured, tail
from overtrain.results.store import Store
from overtrain.run.executors import torchrun
from overtrain.run.measure import measure
from overtrain.run.weights import note_if_new, release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from overtrain.plan.jobs import Job
    from overtrain.study.study import Study

__all__ = ["CellRunner", "CellStatus", "spec_file"]

CellStatus = Literal["done", "diverged", "failed", "skipped", "elsewhere"]
"""How an attempt to run a cell ended: evaluated, evaluated in vain, stored before, or held by another process."""


@dataclass(frozen=True)
class CellRunner:
    """Runs the cells of one sweep, in whatever process an executor calls it. It pickles.

    Attributes:
        study: the study that is run.
        jobs: all jobs of the study: the other jobs decide how long tuned weights are kept.
        retry: ``cell_id`` of every failed cell that this sweep may run again -> when its failure was stored. A cell that
            fails a second time is not run a third time, however many processes see the failure.
    """

    study: Study
    jobs: Sequence[Job]
    retry: Mapping[str, float] = field(default_factory=dict)

    def run(self, job: Job) -> CellStatus:
        """Run ``job`` unless it has a result or another process holds its cell.

        A cell whose weights or scores are not finite is stored as diverged, which is a result. A failing cell is stored with
        its traceback. Ctrl-C stores the cell as cancelled and is raised again. With
        ``resources: {processes: N}`` the cell is measured by N processes under torchrun.

        Raises:
            StoreError: nothing can be written, so the sweep must stop.
        """
        store = Store(job.root)
        with store.claim(job.cell_id) as ours:
            if not ours:
                return "elsewhere"
            if self._has_result(job, store):
                return "skipped"
            started = time.time()
            spec = {"spec.json": spec_file(job)}
            try:
                with captured(store.log(job.cell_id)):
                    files = self._measure(job)
            except StoreError:
                raise
            except KeyboardInterrupt:
                store.write(job.cell_id, spec | _log(store, job), "cancelled", started=started)
                raise
            except DivergedError as error:
                store.write(job.cell_id, spec | _log(store, job), "diverged", started=started, error=str(error))
                return "diverged"
            except Exception as error:  # noqa: BLE001  (one bad cell must not end a sweep of days)
                text = "".join(traceback.format_exception(error))
                store.write(job.cell_id, spec | _log(store, job), "failed", started=started, error=text)
                return "failed"
            store.write(job.cell_id, spec | files | _log(store, job), "done", started=started)
        release(job, self.study, self.jobs, store)
        return "done"

    def _has_result(self, job: Job, store: Store) -> bool:
        before = store.state(job.cell_id)
        if before.status == "failed":
            return self.retry.get(job.cell_id) != before.finished
        return before.status in {"done", "diverged"}

    def _measure(self, job: Job) -> dict[str, bytes]:
        if job.tuned_id is not None:
            note_if_new(job)
        processes = self.study.resources.processes
        return measure(job) if processes == 1 else torchrun.measure(job, processes)

    def absolute(self) -> CellRunner:
        """Return a runner whose jobs name their folder by its absolute path, for processes that start in another one."""
        jobs = [dataclasses.replace(job, root=job.root.resolve()) for job in self.jobs]
        return dataclasses.replace(self, jobs=jobs)


def spec_file(job: Job) -> bytes:
    """Return the contents of ``spec.json``: the cell's spec, and the data whose digest is ``cell_id``."""
    spec = {
        "cell_id": job.cell_id,
        "identity": job.identity,
        "key": job.cell.key,
        "label": job.cell.label,
        "spec": job.cell.spec,
    }
    return json.dumps(spec, indent=1, ensure_ascii=False).encode()


def _log(store: Store, job: Job) -> dict[str, bytes]:
    return {"log.txt": tail(store.log(job.cell_id))}
