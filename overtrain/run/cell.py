"""Runs one job and stores what came of it."""

from __future__ import annotations

import json
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal

from model_wrappers.errors import StoreError
from overtrain.common.captured import captured, tail
from overtrain.common.typed_json import to_json
from overtrain.results.metrics import document_columns, metric_rows, training_rows
from overtrain.results.store import Store
from overtrain.run.executors.torchrun import run_processes
from overtrain.run.weights import note_if_new, release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.plan.jobs import Job
    from overtrain.run.evaluate import Outcome
    from overtrain.study.study import Study

__all__ = ["Ended", "files_of", "run_job"]

Ended = Literal["done", "failed", "elsewhere", "skipped"]


def run_job(job: Job, study: Study, jobs: Sequence[Job], *, retry_failed: bool = False) -> Ended:
    """Run ``job`` unless it is finished or another process holds it.

    A cell that fails is stored with its traceback. Ctrl-C stores it as cancelled and goes on up.

    Args:
        job: what to run.
        study: that it belongs to.
        jobs: all of the study, to know who else needs the tuned weights.
        retry_failed: run it again if it failed before.

    Returns:
        How it ended; ``elsewhere`` if another process holds it, ``skipped`` if it has a result already.

    Raises:
        StoreError: nothing can be written; the sweep must stop.
    """
    store = Store(job.root)
    with store.claim(job.cell_id) as ours:
        if not ours:
            return "elsewhere"
        before = store.state(job.cell_id).status
        if before == "done" or (before == "failed" and not retry_failed):
            return "skipped"
        started = time.time()
        spec = {"spec.json": _json(_spec(job))}
        try:
            with captured(store.log(job.cell_id)):
                if job.tuned_id is not None:
                    note_if_new(job)
                files = _files_of_processes(job, study) if study.resources.processes > 1 else _files(job)
        except StoreError:
            raise
        except KeyboardInterrupt:
            store.write(job.cell_id, spec | _log(store, job), "cancelled", started=started)
            raise
        except Exception as error:  # noqa: BLE001  (one bad cell must not end a sweep of days)
            text = "".join(traceback.format_exception(error))
            store.write(job.cell_id, spec | _log(store, job), "failed", started=started, error=text)
            return "failed"
        store.write(job.cell_id, spec | files | _log(store, job), "done", started=started)
    release(job, study, jobs, store)
    return "done"


def files_of(outcome: Outcome, *, samples: bool) -> dict[str, bytes]:
    """Return the files of a finished cell, ``spec.json`` aside: name -> content.

    Args:
        outcome: what was measured.
        samples: keep lm-eval's samples too, one JSON object per line and document. Those of tasks that generate are kept in
            any case: the texts are what these tasks are for.
    """
    trained = training_rows([step["metrics"] for step in outcome.steps])
    documents = document_columns(outcome.samples, lambda task, metric: (task, metric) in outcome.means)
    files = {
        "results.json": _json(outcome.results),
        "metrics.json": _json(to_json([*metric_rows(outcome.results), *trained])),
        "documents.parquet": _parquet(documents),
        "training_log.json": _json(outcome.steps),
        "environment.json": _json(outcome.environment),
    }
    kinds = {task: config.get("output_type") for task, config in outcome.results.get("configs", {}).items()}
    for task, logged in outcome.samples.items():
        if samples or kinds.get(task) == "generate_until":
            ordered = sorted(logged, key=lambda s: s["doc_id"])  # several processes return theirs in turn
            files[f"samples_{task}.jsonl"] = b"".join(_json(s, indent=None) + b"\n" for s in ordered)
    return files


def _files(job: Job) -> dict[str, bytes]:
    from overtrain.run.evaluate import session

    outcome = session(job.cell.tasks, job.settings, job.sign).evaluate(job)
    return files_of(outcome, samples=job.cell.evaluation.samples)


def _files_of_processes(job: Job, study: Study) -> dict[str, bytes]:
    arguments = [str(job.file), str(job.root.parent), job.cell.key]
    return run_processes("overtrain.run.process", arguments, study.resources.processes)


def _spec(job: Job) -> dict[str, Any]:
    return {
        "cell_id": job.cell_id,
        "identity": job.identity,
        "key": job.cell.key,
        "label": job.cell.label,
        "spec": job.cell.spec,
    }


def _log(store: Store, job: Job) -> dict[str, bytes]:
    return {"log.txt": tail(store.log(job.cell_id))}


def _json(value: Any, indent: int | None = 1) -> bytes:
    from lm_eval.utils import handle_non_serializable

    return json.dumps(value, indent=indent, default=handle_non_serializable, ensure_ascii=False).encode()


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = pa.dictionary(pa.int32(), pa.string())
    kinds = {"task": words, "metric": words, "document": pa.int64(), "value": pa.float64(), "weight": pa.float64()}
    arrays = {
        name: pa.array(columns[name], type=pa.string() if kind is words else kind) for name, kind in kinds.items()
    }
    arrays = {name: a.dictionary_encode() if kinds[name] is words else a for name, a in arrays.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink, compression="zstd")
    return bytes(sink.getvalue())
