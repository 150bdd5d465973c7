"""Time and memory of ``overtrain report`` on a large study: ``python -m benchmarks.report [--metrics 2]``.

Writes a synthetic study in the store's own format: 18 checkpoints x (base, and 5 noise scales and 6 learning rates with 5 seeds
each) = 1,008 cells, with ten benchmarks of 500 documents and one text. These are 5.5 million scores with one metric per
benchmark, or 10.6 million with two. Then the report runs in a separate process, and seconds and peak memory are printed. The
limits are 60 s and 2 GiB on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from model_wrappers.identity import digest
from overtrain.results.record import CellRecord, StudyRecord, described
from overtrain.results.store import Store
from overtrain.results.study_file import write_study as write_record
from overtrain.study.settings import PrimaryComparison

CHECKPOINTS, SEEDS, BENCHMARKS, DOCUMENTS = 18, 5, 10, 500
GAMMAS = (0.05, 0.1, 0.15, 0.2, 0.3)
RATES = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3)
LIMIT_SECONDS, LIMIT_GIB = 60.0, 2.0


def write_study(root: Path, *, checkpoints: int = CHECKPOINTS, documents: int = DOCUMENTS, metrics: int = 1) -> int:
    """Write the run folder; return the number of cells."""
    rng = np.random.default_rng(0)
    store, entries = Store(root), []
    store.prepare()
    own = rng.normal(0, 0.15, (BENCHMARKS, documents))
    budgets = [int(1e6 * 1.3**place) for place in range(checkpoints)]
    modified: list[tuple[str, dict[str, float], int | None]] = [("base", {}, None)]
    modified += [("noise", {"gamma": gamma}, seed) for gamma in GAMMAS for seed in range(SEEDS)]
    modified += [("tuning", {"learning_rate": rate}, seed) for rate in RATES for seed in range(SEEDS)]
    for place, budget in enumerate(budgets):
        for variant, fields, seed in modified:
            strength = fields.get("gamma", 0.0) + 30 * fields.get("learning_rate", 0.0)
            loss = 4 - 0.1 * place + 5 * strength * (place / checkpoints) ** 3 + rng.normal(0, 0.02)
            entries.append(_write_cell(store, rng, own, loss, (budget, variant, fields, seed), count=metrics))
    primary = PrimaryComparison(
        task="text", metric="nll_per_token", variant="tuning", compare=(budgets[-5], budgets[-1])
    )
    write_record(root, described(StudyRecord(name="benchmark", primary=primary, cells=tuple(entries))))
    return len(entries)


def _write_cell(
    store: Store, rng: Any, own: Any, loss: float, about: tuple[int, str, dict[str, float], int | None], *, count: int
) -> CellRecord:
    budget, variant, fields, seed = about
    identity = {"cell": f"{budget} {variant} {fields} {seed}"}
    cell_id = digest(identity)
    documents = own.shape[1]
    bits = 0.2 + 0.2 * loss + own + rng.normal(0, 0.02, own.shape)
    text = loss + rng.normal(0, 0.3, documents)
    scores = [("text", "nll_per_token", text)]
    scores += [(f"bench{i}", "bits_per_byte", row) for i, row in enumerate(bits)]
    if count > 1:
        scores += [(f"bench{i}", "primary", (row < 0.8).astype(float)) for i, row in enumerate(bits)]
    metrics = [
        {
            "task": t,
            "metric": m,
            "value": float(v.mean()),
            "stderr": 0.01,
            "n_documents": documents,
            "higher_is_better": m == "primary",
        }
        for t, m, v in scores
    ]
    rate = fields.get("learning_rate")
    if rate is not None:
        inside = 1.5 + 0.02 * np.log2(rate / 6e-4) ** 2 + rng.normal(0, 0.005)
        for metric, value in (("validation_loss", inside), ("distance", 1e3 * rate)):
            metrics.append(
                {
                    "task": "training",
                    "metric": metric,
                    "value": float(value),
                    "stderr": None,
                    "n_documents": None,
                    "higher_is_better": None,
                }
            )
    files = {
        "spec.json": json.dumps({"identity": identity}).encode(),
        "results.json": b"{}",
        "metrics.json": json.dumps(metrics).encode(),
        "documents.parquet": _documents(scores),
        "training_log.json": b"[]",
        "environment.json": b'{"lm_eval_version": "0.4.13"}',
    }
    store.write(cell_id, files, "done", started=time.time())
    return CellRecord(
        key=cell_id,
        cell_id=cell_id,
        weights_id=cell_id,
        label=identity["cell"],
        checkpoint=f"tokens-{budget}",
        family="tiny",
        run="tiny",
        tokens=budget,
        checkpoint_learning_rate=0.0,
        variant=variant,
        modification={"base": "base", "noise": "gaussian", "tuning": "finetune"}[variant],
        seed=seed,
        fields=fields,
    )


def _documents(scores: list[tuple[str, str, Any]]) -> bytes:
    """Return a cell's documents as the sweep writes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(scores[0][2])
    columns = {
        "task": pa.array(np.repeat([s[0] for s in scores], count)).dictionary_encode(),
        "metric": pa.array(np.repeat([s[1] for s in scores], count)).dictionary_encode(),
        "document": pa.array(np.tile(np.arange(count), len(scores))),
        "value": pa.array(np.concatenate([s[2] for s in scores])),
        "weight": pa.array(np.ones(count * len(scores))),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return bytes(sink.getvalue())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=CHECKPOINTS, help="fewer, for a quick look")
    parser.add_argument("--metrics", type=int, default=1, choices=(1, 2), help="per benchmark and document")
    parser.add_argument("--folder", type=Path, help="keep the study here, and reuse it if it is there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = given.folder or Path(scratch) / "benchmark"
        if not (root / "study.json").exists():
            print("cells written:", write_study(root, checkpoints=given.checkpoints, metrics=given.metrics))
        script = (
            "import sys, pathlib; from overtrain.report.build import report; print(report(pathlib.Path(sys.argv[1])))"
        )
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", script, str(root)], check=True)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    gib = used.ru_maxrss / 2**20
    print(f"report: {seconds:.1f} s (limit {LIMIT_SECONDS:.0f}), {used.ru_utime + used.ru_stime:.1f} s of CPU")
    print(f"peak memory: {gib:.2f} GiB (limit {LIMIT_GIB:.0f})")
    within = seconds <= LIMIT_SECONDS and gib <= LIMIT_GIB
    print("within limits" if within else "OVER A LIMIT")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
