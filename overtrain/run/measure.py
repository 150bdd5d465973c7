"""Measures one cell in this process and turns the outcome into the files of a finished cell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from overtrain.common.typed_json import to_json
from overtrain.results.metrics import document_columns, metric_rows, training_rows

if TYPE_CHECKING:
    from overtrain.plan.jobs import Job
    from overtrain.run.evaluate import Outcome

__all__ = ["as_json", "as_parquet", "evaluate", "files_of", "measure"]


def measure(job: Job) -> dict[str, bytes]:
    """Evaluate the cell of ``job`` and return its files, ``spec.json`` aside: name -> content.

    Raises:
        OvertrainError: as the model, its modifications and the tasks raise.
    """
    return files_of(evaluate(job), samples=job.cell.evaluation.samples)


def evaluate(job: Job) -> Outcome:
    """Evaluate the cell of ``job``; of several processes under torchrun, the first one's outcome alone has results.

    Raises:
        OvertrainError: as the model, its modifications and the tasks raise.
    """
    from overtrain.run.evaluate import session

    return session(job.cell.tasks, job.settings, job.tasks_stamp).evaluate(job)


def files_of(outcome: Outcome, *, samples: bool) -> dict[str, bytes]:
    """Return the files of a finished cell, ``spec.json`` aside: name -> content.

    Args:
        outcome: what was measured.
        samples: keep lm-eval's samples too, one JSON object per line and document. The samples of tasks that generate are
            always kept: these tasks are run for their texts.
    """
    trained = training_rows([step["metrics"] for step in outcome.steps])
    documents = document_columns(outcome.samples, lambda task, metric: (task, metric) in outcome.means)
    files = {
        "results.json": as_json(outcome.results),
        "metrics.json": as_json(to_json([*metric_rows(outcome.results), *trained])),
        "documents.parquet": as_parquet(documents),
        "training_log.json": as_json(outcome.steps),
        "environment.json": as_json(outcome.environment),
    }
    kinds = {task: config.get("output_type") for task, config in outcome.results.get("configs", {}).items()}
    for task, logged in outcome.samples.items():
        if samples or kinds.get(task) == "generate_until":
            ordered = sorted(logged, key=lambda s: s["doc_id"])  # several processes return their documents in turn
            files[f"samples_{task}.jsonl"] = b"".join(as_json(s, indent=None) + b"\n" for s in ordered)
    return files


def as_json(value: Any, indent: int | None = 1) -> bytes:
    """Return ``value`` as JSON; what JSON does not know is written as lm-eval writes it."""
    from lm_eval.utils import handle_non_serializable

    return json.dumps(value, indent=indent, default=handle_non_serializable, ensure_ascii=False).encode()


def as_parquet(columns: dict[str, list[Any]]) -> bytes:
    """Return the columns of `document_columns` as a compressed Parquet file."""
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
