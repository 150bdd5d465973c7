"""``python -m benchmarks.sweep``: the overhead of a study, and the time to recognise a finished study.

There are two measurements, on this machine and in temporary folders. The first is a real sweep of a tiny model, with enough
text that a cell takes about a second. Everything except training, building requests and the model's own scoring is
overhead. The second is a study of 1,002 finished cells with ten benchmarks of 500 documents each. It measures time and
memory, each in a new process, to recognise the study (``overtrain sweep`` with nothing to do), to load its runs, and to
load its documents. Writes ``benchmarks/results/sweep.json``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "sweep.json"
TASKS = [f"benchmark_{number}" for number in range(10)]
METRICS = ("acc", "acc_norm", "bits_per_byte", "primary")
DOCUMENTS = 500
STUDY = """\
name: bench
checkpoints: [{{folders: [{{path: {one}, tokens: 1000}}, {{path: {two}, tokens: 2000}}]}}]
modifications: {{noise: {{gaussian: {{gamma: {gammas}, init_std: 0.02}}}}}}
seeds: {seeds}
tasks: [overtrain_text]
evaluation: {{text_file: text.jsonl, batch_size: 8, device: cpu}}
"""


def main() -> None:
    """Measure and print."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["OVERTRAIN_CACHE"] = str(folder / "cache")
        models = [_model(folder / f"model-{seed}", seed) for seed in (0, 1)]
        found = {"overhead": _overhead(folder / "small", models), "finished": _finished(folder / "large", models)}
    print(json.dumps(found, indent=1))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def _model(folder: Path, seed: int) -> Path:
    import torch
    from transformers import OlmoConfig, OlmoForCausalLM

    from overtrain.pretrain.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["def add(a, b): return a + b"] * 10, 300, 256)
    config = OlmoConfig(
        vocab_size=300, hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=256, bos_token_id=0, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(seed)
    OlmoForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _study(folder: Path, models: list[Path], gammas: int, seeds: int, texts: int) -> Path:
    folder.mkdir(parents=True)
    rows = (json.dumps({"text": f"Document {n}: " + "some words that say little " * 20}) for n in range(texts))
    (folder / "text.jsonl").write_text("\n".join(rows))
    text = STUDY.format(
        one=models[0], two=models[1], gammas=[0.01 * (g + 1) for g in range(gammas)], seeds=list(range(seeds))
    )
    (folder / "study.yaml").write_text(text)
    return folder / "study.yaml"


def _overhead(folder: Path, models: list[Path]) -> dict[str, Any]:
    """Time a sweep, and inside it what is not ours: building requests, and lm-eval's evaluation of a loaded model."""
    from overtrain.plan import tasks
    from overtrain.run import evaluate
    from overtrain.run.sweep import run

    inside = {"requests": 0.0, "scoring": 0.0}
    build = tasks._build_once

    def build_once(*arguments: Any) -> None:
        started = time.perf_counter()
        build(*arguments)
        inside["requests"] += time.perf_counter() - started

    tasks._build_once = build_once
    file = _study(folder, models, gammas=5, seeds=2, texts=200)
    run(file, folder / "warm", only=["base"])  # imports are paid once a study, whatever its size
    tasks.built_tasks.cache_clear()
    evaluate.session.cache_clear()
    inside["requests"] = 0.0

    import overtrain.run.lm

    score = overtrain.run.lm.CellLM._loglikelihood_tokens

    def scored(self: Any, *arguments: Any, **more: Any) -> Any:
        started = time.perf_counter()
        answer = score(self, *arguments, **more)
        inside["scoring"] += time.perf_counter() - started
        return answer

    overtrain.run.lm.CellLM._loglikelihood_tokens = scored  # type: ignore[method-assign]
    started = time.perf_counter()
    summary = run(file, folder / "runs")
    seconds = time.perf_counter() - started
    each = (seconds - sum(inside.values())) / summary.ran
    return {
        "cells": summary.ran,
        "seconds": round(seconds, 3),
        **{name: round(value, 3) for name, value in inside.items()},
        "overhead_per_cell_s": round(each, 4),
        "share_for_cells_of_a_minute": round(each / (60 + each), 5),
        "limit": 0.03,
    }


def _finished(folder: Path, models: list[Path]) -> dict[str, Any]:
    """Fill a study of 1,002 cells with made-up results and measure what reads it."""
    from overtrain.plan.expand import expand
    from overtrain.plan.load import load_study
    from overtrain.run.sweep import plan_study

    file = _study(folder, models, gammas=20, seeds=25, texts=4)
    study = load_study(file)
    cells = expand(study)
    started = time.perf_counter()
    plan, _ = plan_study(study, cells, folder / "runs")
    planned = time.perf_counter() - started
    _fill(plan.jobs)
    root = folder / "runs" / "bench"
    commands = {
        "recognised": f"from overtrain.run.sweep import run; n = run({str(file)!r}, {str(folder / 'runs')!r}).done",
        "load_runs": f"from overtrain.results.frame import load_runs; n = len(load_runs({str(root)!r}))",
        "load_documents_one_metric": "from overtrain.results.frame import load_documents; "
        f"n = len(load_documents({str(root)!r}, metrics=['bits_per_byte']))",
        "load_documents": f"from overtrain.results.frame import load_documents; n = len(load_documents({str(root)!r}))",
    }
    found: dict[str, Any] = {"cells": len(plan.jobs), "planned_s": round(planned, 2), "recognised_limit_s": 5}
    for name, code in commands.items():
        found[name] = _measure(code)
    return found


def _fill(jobs: list[Any]) -> None:
    import numpy as np

    from overtrain.results.store import Store
    from overtrain.run.cell import spec_file
    from overtrain.run.measure import as_json, as_parquet

    generator = np.random.default_rng(0)
    keys = [(task, metric) for task in TASKS for metric in METRICS]
    common = {
        "task": [task for task, _ in keys for _ in range(DOCUMENTS)],
        "metric": [metric for _, metric in keys for _ in range(DOCUMENTS)],
        "document": [d for _ in keys for d in range(DOCUMENTS)],
        "weight": [1.0] * (len(keys) * DOCUMENTS),
    }
    rows = [
        {"task": t, "metric": m, "value": 0.5, "stderr": 0.02, "n_documents": DOCUMENTS, "higher_is_better": True}
        for t, m in keys
    ]
    for job in jobs:
        files = {
            "spec.json": spec_file(job),
            "results.json": b"{" + b" " * 200_000 + b"}",
            "metrics.json": as_json(rows),
            "documents.parquet": as_parquet(common | {"value": list(generator.normal(size=len(keys) * DOCUMENTS))}),
            "training_log.json": b"[]",
            "environment.json": b"{}",
        }
        Store(job.root).write(job.cell_id, files, "done", started=time.time())


def _measure(code: str) -> dict[str, Any]:
    """Run ``code`` in a fresh process; return seconds, start of Python included, its answer and its peak memory."""
    more = "; print(n, next(int(w.split()[1]) for w in open('/proc/self/status') if w.startswith('VmHWM')) / 1e6)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + more], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    number, memory = done.stdout.split()
    return {"seconds": round(seconds, 2), "answer": int(number), "peak_gb": round(float(memory), 2)}


if __name__ == "__main__":
    main()
