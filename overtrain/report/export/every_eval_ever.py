"""Records of `every_eval_ever` (github.com/evaleval/every_eval_ever), schema 0.3.0.

Source: ``eval.schema.json`` of the package ``every-eval-ever`` 0.3.0, and the rules of its validator: bounds that hold the
score, ``deployment_type`` and ``model_availability``, a path that ends in a version-4 UUID.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from importlib import metadata
from typing import TYPE_CHECKING, Any

from overtrain.report.export.form import OneFilePerCell
from overtrain.report.files import slug
from overtrain.results.metrics import TRAINING

if TYPE_CHECKING:
    from overtrain.report.export.form import FinishedCell
    from overtrain.results.record import MetricRow

__all__ = ["SCHEMA_VERSION", "EveryEvalEver"]

SCHEMA_VERSION = "0.3.0"

_SHARE = ("accuracy", "proportion", 0.0, 1.0)
_KNOWN: dict[str, tuple[str, str, float | str, float | str]] = {
    "acc": _SHARE,
    "acc_norm": ("accuracy", "proportion", 0.0, 1.0),
    "primary": _SHARE,
    "exact_match": ("exact_match", "proportion", 0.0, 1.0),
    "f1": ("f1", "proportion", 0.0, 1.0),
    "win_rate": ("win_rate", "percent", 0.0, 100.0),
    "bits_per_byte": ("bits_per_byte", "bits per byte", 0.0, "Infinity"),
    "nll_per_token": ("negative_log_likelihood", "nats per token", 0.0, "Infinity"),
    "token_perplexity": ("perplexity", "perplexity per token", 0.0, "Infinity"),
    "byte_perplexity": ("perplexity", "perplexity per byte", 0.0, "Infinity"),
    "word_perplexity": ("perplexity", "perplexity per word", 0.0, "Infinity"),
}
"""Metric -> kind, unit, smallest and largest value."""
_GLOBAL = {"acc": "accuracy"}
"""Metrics whose name others share; every other one is named after us."""


class EveryEvalEver(OneFilePerCell):
    """One record per cell, under ``data/<study>/<developer>/<model>/<uuid>.json``."""

    def content(self, cell: FinishedCell, organization: str) -> tuple[str, dict[str, Any]]:
        """Return the path and the content of a cell's record; metrics without a direction or a finite value are left out."""
        model_id = f"{cell.developer}/{cell.model}"
        name = uuid.UUID(bytes=hashlib.sha256(str(cell.record.cell_id).encode()).digest()[:16], version=4)
        content = {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": f"{cell.study}/{model_id}/{cell.record.cell_id}",
            "evaluation_timestamp": _when(cell),
            "retrieved_timestamp": str(int(cell.finished)),
            "source_metadata": {
                "source_name": f"lm-eval-overtrain study {cell.study}",
                "source_type": "evaluation_run",
                "source_organization_name": organization,
                "evaluator_relationship": "other" if organization == "unknown" else "third_party",
            },
            "eval_library": {
                "name": "lm_eval",
                "version": str(cell.results.get("lm_eval_version") or "unknown"),
                "additional_details": {"models_by": "lm-eval-overtrain", "lm_eval_overtrain_version": _own_version()},
            },
            "model_info": _model(cell, model_id),
            "evaluation_results": [
                r for row in cell.rows if row.task != TRAINING and (r := _result(cell, row)) is not None
            ],
        }
        return f"data/{slug(cell.study)}/{cell.developer}/{cell.model}/{name}.json", content


def _model(cell: FinishedCell, model_id: str) -> dict[str, Any]:
    about, entry = cell.about, cell.record
    checkpoint = about.get("checkpoint", {})
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "open_weights" if cell.hub and entry.modification == "base" else "unknown",
        "base_checkpoint": entry.checkpoint,
        "base_family": entry.family,
        "pretraining_run": entry.run,
        "pretraining_tokens": entry.tokens,
        "variant": entry.variant,
        "modifications": [_settings(m) for m in about.get("modifications", [])],
        "seed": entry.seed,
        "weights_id": entry.weights_id,
        "cell_id": entry.cell_id,
        "weights_fingerprint": checkpoint.get("fingerprint"),
        "dtype": about.get("dtype"),
    }
    engine = {"name": "transformers", "version": str(cell.results.get("transformers_version") or "unknown")}
    return {
        "name": f"{entry.checkpoint}, {entry.variant}",
        "id": model_id,
        "developer": cell.developer,
        "inference_engine": engine,
        "additional_details": {
            k: v if isinstance(v, str) else json.dumps(v) for k, v in details.items() if v is not None
        },
    }


def _settings(modification: dict[str, Any]) -> dict[str, Any]:
    """Return a modification's own fields; where its data lies on a disk is nobody's business."""
    return {k: _without_folders(v) for k, v in modification.items() if k not in {"metrics", "record"}}


def _without_folders(value: Any) -> Any:
    """Return JSON data in which a path from the root of a disk is reduced to its last part."""
    if isinstance(value, dict):
        return {k: _without_folders(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_folders(v) for v in value]
    return value.rsplit("/", 1)[1] if isinstance(value, str) and value.startswith("/") else value


def _result(cell: FinishedCell, row: MetricRow) -> dict[str, Any] | None:
    value, better = row.value, row.higher_is_better
    if not isinstance(better, bool) or value is None or not math.isfinite(value):
        return None
    metric, task = row.metric, row.task
    kind, unit, low, high = _KNOWN.get(metric.partition(",")[0], (metric, "unknown", "-Infinity", "Infinity"))
    score: dict[str, Any] = {"score": value}
    uncertainty: dict[str, Any] = {}
    if row.stderr is not None and math.isfinite(row.stderr):
        uncertainty["standard_error"] = {"value": row.stderr}
    if row.n_documents:
        uncertainty["num_samples"] = int(row.n_documents)
    if uncertainty:
        score["uncertainty"] = uncertainty
    fewshot = cell.results.get("n-shot", {}).get(task)
    version = cell.results.get("versions", {}).get(task)
    details = {"num_fewshot": fewshot, "task_version": version, "limit": cell.results.get("config", {}).get("limit")}
    settings = {k: str(v) for k, v in details.items() if v is not None}
    found = {
        "evaluation_result_id": f"{task}/{metric}",
        "evaluation_name": task,
        "evaluation_timestamp": _when(cell),
        "source_data": _data(cell, task),
        "metric_config": {
            "evaluation_description": f"{metric} of {task}",
            "metric_id": _GLOBAL.get(metric, f"lm_eval_overtrain.{metric}"),
            "metric_name": metric,
            "metric_kind": kind,
            "metric_unit": unit,
            "lower_is_better": not better,
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
        },
        "score_details": score,
    }
    return found | ({"generation_config": {"additional_details": settings}} if settings else {})


def _data(cell: FinishedCell, task: str) -> dict[str, Any]:
    config = cell.results.get("configs", {}).get(task, {})
    repo = str(config.get("dataset_path") or "")
    if repo.count("/") == 1 and not repo.startswith((".", "/", "~")):
        found = {"dataset_name": task, "source_type": "hf_dataset", "hf_repo": repo}
        split = config.get("test_split") or config.get("validation_split")
        return found | ({"hf_split": str(split)} if split else {})
    return {"dataset_name": task, "source_type": "other"}


def _when(cell: FinishedCell) -> str:
    return str(int(cell.results.get("date") or cell.finished))


def _own_version() -> str:
    try:
        return metadata.version("lm-eval-overtrain")
    except metadata.PackageNotFoundError:
        return "unknown"
