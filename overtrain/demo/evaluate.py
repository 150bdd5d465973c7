"""One cell, evaluated by lm-eval inside a worker process."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from overtrain.pretrain.files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from overtrain.demo.plan import Cell, Plan

__all__ = ["BATCH_SIZE", "TASK", "evaluate"]

TASK = "overtrain_text"
BATCH_SIZE = 64

_SAMPLE_KEYS = ("doc_id", "doc_hash", "nll_per_token", "bits_per_byte")


def evaluate(cell: Cell, plan: Plan, held_out: Path, out: Path) -> Path:
    """Run lm-eval on ``cell`` and keep its results JSON, cut to the numbers of each document; return the file.

    Each sample keeps ``nll_per_token`` and ``bits_per_byte`` as lm-eval logs them, [log-likelihood in nats, tokens] and
    [log-likelihood in nats, bytes], and lm-eval's hash of the document.
    """
    from lm_eval import simple_evaluate
    from lm_eval.utils import handle_non_serializable

    model, arguments = cell.model(plan, out)
    results: dict[str, Any] = simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=[TASK],
        task_manager=_tasks(str(held_out)),
        batch_size=BATCH_SIZE,
        device="cpu",
        bootstrap_iters=0,
    )
    results["samples"] = {
        task: [{key: sample[key] for key in _SAMPLE_KEYS} for sample in samples]
        for task, samples in results["samples"].items()
    }
    path = plan.result(cell, out)
    whole_file(path, json.dumps(results, indent=1, default=handle_non_serializable, ensure_ascii=False))
    return path


@functools.cache
def _tasks(held_out: str) -> Any:
    """Return the process's one task manager: our tasks alone, because indexing lm-eval's takes seconds."""
    import lm_eval.models  # noqa: F401  (fills lm-eval's own registry, which ours must not pre-empt)
    from lm_eval.tasks import TaskManager
    from torch.utils import collect_env

    import overtrain_tasks
    from model_wrappers import _hook

    _hook.register()
    # lm-eval describes the machine in every result and forks `pip list` for it; within one process it stays the same.
    collect_env.get_pretty_env_info = functools.cache(collect_env.get_pretty_env_info)
    return TaskManager(
        include_defaults=False, include_path=str(overtrain_tasks.path()), metadata={"text_file": held_out}
    )
