"""``python -m benchmarks.commands``: compares whole commands, from the start of the process to its end, with lm-eval's own.

There are two comparisons. Both measure the CPU time of a command and its child processes, and each command runs once.

The first compares ``lm_eval --model hf`` (at the better batch size of 1 and 8) with ``lm_eval --model overtrain_perturb``
and the same weights (``gamma=0``). The tasks are the ten benchmarks, 5-shot, with a random model of a published shape. Our
command runs twice: with an empty cache, so that scores are first compared with lm-eval's, and then again, when the outcome
is stored. The start of a command (imports, task index, pip's list) has a larger share with fewer requests, so several
numbers of requests are measured.

The second compares a study, with the cells of the demo at its smallest budgets and without pre-training, with a loop of one
``lm_eval`` command per cell. A few commands of each kind of cell are timed, and their mean is used for all cells of the
kind.

Every timed command must report the same metrics as the other side. Writes ``benchmarks/results/commands-<model>-cpu.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.models import SHAPES, SHARED, machine, model, tokenizer

RESULTS = Path(__file__).parent / "results"
CONFIGS = Path(__file__).parents[1] / "configs"
BATCHES = (1, 8)
STUDY = """\
include: {configs}/micro/demo.yaml
name: demo
checkpoints: [{{ladder: {{budgets: {budgets}, init_seeds: [0]}}, family: micro}}]
primary: {{task: overtrain_text, metric: nll_per_token, variant: noise, at: 0.2, compare: {budgets}}}
"""
BUDGETS = [256_000, 512_000]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="30m")
    parser.add_argument("--documents", type=int, nargs="+", default=[3, 12], help="per task")
    parser.add_argument("--sample", type=int, default=2, help="commands that are timed of each kind of cell")
    parser.add_argument("--parts", nargs="+", default=["commands", "study"], choices=("commands", "study"))
    given = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit(f"{SHARED}: no such folder; the benchmarks' rows must be there")
    results = RESULTS / f"commands-{given.model}-cpu.json"
    os.environ["OMP_NUM_THREADS"] = "1"  # waiting threads would count as CPU time
    found: dict[str, Any] = {"model": given.model, "dtype": "float32", "clock": "cpu", **machine()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if "commands" in given.parts:
            found["commands"] = _commands(folder, given.model, given.documents)
        if "study" in given.parts:
            found["study"] = _study(folder, given.sample)
    kept = json.loads(results.read_text()) if results.is_file() else {}
    results.write_text(json.dumps(kept | found, indent=1) + "\n")  # a part that was not measured stays


def _commands(folder: Path, name: str, sizes: list[int]) -> list[dict[str, Any]]:
    """Return CPU seconds of both sides per number of documents."""
    place = folder / "model"
    model(name).save_pretrained(place)
    tokenizer().save_pretrained(place)
    batches: tuple[int, ...] = BATCHES
    rows = []
    for documents in sizes:
        requests = _requests(documents)
        shared = ["--tasks", "overtrain_ten", "--num_fewshot", "5", "--limit", str(documents)]
        theirs = {b: _lm_eval(folder, ["--model", "hf"], f"pretrained={place}", shared, batch=b) for b in batches}
        best = min(theirs, key=lambda b, theirs=theirs: theirs[b][0])
        batches = (best,)
        cache = folder / f"cache-{documents}"
        arguments = ["--model", "overtrain_perturb"], f"pretrained={place},gamma=0", shared
        first = _lm_eval(folder, *arguments, batch=1, cache=cache)
        second = _lm_eval(folder, *arguments, batch=1, cache=cache)
        _same(theirs[best][1], first[1])
        _same(theirs[best][1], second[1])
        rows.append(
            {
                "documents_per_task": documents,
                "requests": requests,
                "hf_batch_size": best,
                "hf": {str(b): round(seconds, 2) for b, (seconds, _) in theirs.items()},
                "first": round(first[0], 2),
                "second": round(second[0], 2),
                "ratio_first": round(theirs[best][0] / first[0], 2),
                "ratio_second": round(theirs[best][0] / second[0], 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _study(folder: Path, sample: int) -> dict[str, Any]:
    """Return CPU seconds of a study and of a loop of commands for its cells."""
    file, runs = folder / "study.yaml", folder / "runs"
    file.write_text(STUDY.format(configs=CONFIGS, budgets=BUDGETS))
    cache = folder / "cache-study"
    sweep = ["overtrain", "sweep", str(file), "--runs", str(runs)]
    _run(folder, [*sweep, "--only", "base"], cache)  # pre-trains
    before = set((runs / "demo").glob("*/status.json"))
    seconds = _run(folder, sweep, cache)
    cells = defaultdict(list)
    for status in sorted(set((runs / "demo").glob("*/status.json")) - before):
        spec = json.loads((status.parent / "spec.json").read_text())
        if spec["spec"]["modifications"]:
            cells[spec["spec"]["modifications"][0]["modification"]].append(spec)
    text = next((runs / "ladders").glob("*/text/held_out.jsonl"))
    loop, each = 0.0, {}
    for kind, specs in cells.items():
        step = max(len(specs) // sample, 1)
        taken = [_cell(folder, spec, runs, text) for spec in specs[::step][:sample]]
        each[kind] = {"cells": len(specs), "timed": len(taken), "seconds": round(statistics.mean(taken), 2)}
        loop += len(specs) * statistics.mean(taken)
    count = sum(map(len, cells.values()))
    found = {"cells": count, "sweep": round(seconds, 2), "loop": round(loop, 1), "kinds": each}
    print(found | {"ratio": round(loop / seconds, 1)}, flush=True)
    return found | {"ratio": round(loop / seconds, 1)}


def _cell(folder: Path, spec: dict[str, Any], runs: Path, text: Path) -> float:
    """Return the CPU seconds of the command that does what a cell does, from an empty cache."""
    ladder = spec["spec"]["checkpoint"]["ladder"]
    checkpoint = next((runs / "ladders").glob(f"*/seed-{ladder['seed']}/tokens-{ladder['tokens']}"))
    step = dict(spec["spec"]["modifications"][0])
    name = "overtrain_perturb" if step.pop("modification") == "gaussian" else "overtrain_ft"
    fields = ",".join(f"{field}={value}" for field, value in step.items() if value is not None)
    metadata = json.dumps({"text_file": str(text)})
    seconds, results = _lm_eval(
        folder,
        ["--model", name],
        f"pretrained={checkpoint},{fields},scoring=plain",
        ["--tasks", "overtrain_text", "--metadata", metadata],
        batch=64,
    )
    if results["config"]["overtrain"]["cell_id"] != spec["cell_id"]:
        sys.exit(f"{spec['label']}: the command evaluated another cell")
    _same(results, json.loads((runs / "demo" / spec["cell_id"] / "results.json").read_text()))
    return seconds


def _lm_eval(
    folder: Path, chosen: list[str], arguments: str, more: list[str], *, batch: int, cache: Path | None = None
) -> tuple[float, dict[str, Any]]:
    """Return the CPU seconds of a command and its results."""
    import overtrain_tasks

    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = ["lm_eval", *chosen, "--model_args", f"{arguments},dtype=float32", "--device", "cpu", *more]
        command += ["--include_path", str(overtrain_tasks.path()), "--batch_size", str(batch), "--output_path", out]
        seconds = _run(folder, command, cache or Path(out) / "cache")
        return seconds, json.loads(next(Path(out).rglob("results_*.json")).read_text())


def _run(folder: Path, command: list[str], cache: Path) -> float:
    """Return the CPU seconds of a command and of all that it starts."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OVERTRAIN_CACHE": str(cache),
        "OVERTRAIN_DATA": str(SHARED),
    }
    before = _children()
    script = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [script, *command[1:]], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """End the run where two results name other metrics or other values."""
    for task, metrics in one["results"].items():
        for name, value in metrics.items():
            if isinstance(value, float) and abs(value - other["results"][task][name]) > 1e-4 * max(1, abs(value)):
                sys.exit(f"{task}, {name}: {value} and {other['results'][task][name]}")


def _requests(documents: int) -> int:
    """Return how many log-likelihoods the ten benchmarks ask for."""
    from benchmarks.models import TASKS, requests

    return sum(len(requests(task, documents)) for task in TASKS)


if __name__ == "__main__":
    main()
