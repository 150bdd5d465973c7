"""``python -m benchmarks.copies``: the cost of each further perturbed copy of a checkpoint, in a study and with ``lm_eval``.

The model is random, has a published shape, and is saved to disk. The tasks are four of the benchmarks, 5-shot (with made-up
text if there are no real rows). In a study, a further copy costs (CPU time of ``overtrain sweep`` with K copies - CPU time
with one copy) / (K - 1). This is compared with whole runs of stock ``lm_eval --model overtrain_perturb``, one copy per run:
with ``scoring=plain`` at the better batch size of 1 and 8, and with the default scoring. All runs are separate processes
and take turns. CPU time includes child processes. Each run is compared with the study's cell of the same ``cell_id``: the
log-likelihood of every document, and accuracies.

The start of a run has a larger share with fewer documents, so the ratio falls with the number of documents. ``--documents``
takes several numbers; the bar applies to the first. Writes ``benchmarks/results/copies-<model>-cpu.json``.
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
from pathlib import Path
from typing import Any

from benchmarks.models import SHAPES, SHARED, machine, model, spread, tokenizer, words

RESULTS = Path(__file__).parent / "results"
BAR = 10.0
TOLERANCE = 1e-4  # nats, in fp32
TASKS = ("overtrain_arc_easy", "overtrain_hellaswag", "overtrain_piqa", "overtrain_winogrande")
GAMMAS = (0.02, 0.05, 0.1, 0.2)
SEEDS = (0, 1)
COPIES = [(gamma, seed) for gamma in GAMMAS for seed in SEEDS]
BATCHES = (1, 8)
STUDY = """\
name: copies
checkpoints: [{{folders: [{{path: {model}, tokens: 1000}}]}}]
modifications: {{noise: {{gaussian: {{gamma: {gammas}, init_std: 0.02}}}}}}
seeds: {seeds}
tasks: {tasks}
evaluation: {{limit: {limit}, num_fewshot: {shots}, batch_size: 1, device: cpu, samples: true{more}}}
"""


class Bench:
    """The model, the tasks and the commands.

    Args:
        folder: everything is written here.
        name: of the model's shape.
        documents: per task.
    """

    def __init__(self, folder: Path, name: str, documents: int) -> None:
        self._folder, self._documents = folder, documents
        self._model = folder / "model"
        model(name).save_pretrained(self._model)
        tokenizer().save_pretrained(self._model)
        self._text: Path | None = None
        if not SHARED.is_dir():
            self._text = folder / "text.jsonl"
            rows = (json.dumps({"text": " ".join(words(400, n))}) for n in range(documents))
            self._text.write_text("\n".join(rows))
        self.tasks = ("overtrain_text",) if self._text else TASKS
        self._shots = 0 if self._text else 5
        self._number = 0
        self._environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OVERTRAIN_CACHE": str(folder / "cache"),
            **({} if self._text else {"OVERTRAIN_DATA": str(SHARED)}),
        }

    def study(self, gammas: tuple[float, ...], seeds: tuple[int, ...]) -> tuple[float, Path]:
        """Return the CPU seconds of a sweep from nothing, and its folder."""
        folder = self._fresh()
        text = STUDY.format(
            model=self._model,
            gammas=list(gammas),
            seeds=list(seeds),
            tasks=json.dumps(self.tasks),
            limit=self._documents,
            shots=self._shots,
            more=f", text_file: {self._text}" if self._text else "",
        )
        (folder / "study.yaml").write_text(text)
        runs = folder / "runs"
        seconds = self._run("overtrain", "sweep", str(folder / "study.yaml"), "--runs", str(runs))
        return seconds, runs / "copies"

    def lm_eval(self, copy: tuple[float, int], *, batch: int, plain: bool) -> tuple[float, Path]:
        """Return the CPU seconds of one copy's run, and the folder of its results."""
        import overtrain_tasks

        folder = self._fresh()
        gamma, seed = copy
        arguments = f"pretrained={self._model},gamma={gamma},seed={seed},init_std=0.02"
        seconds = self._run(
            *("lm_eval", "--model", "overtrain_perturb", "--device", "cpu", "--batch_size", str(batch)),
            *("--model_args", arguments + (",scoring=plain" if plain else "")),
            *("--tasks", ",".join(self.tasks), "--include_path", str(overtrain_tasks.path())),
            *("--num_fewshot", str(self._shots), "--limit", str(self._documents)),
            *("--output_path", str(folder), "--log_samples"),
            *(("--metadata", json.dumps({"text_file": str(self._text)})) if self._text else ()),
        )
        return seconds, folder

    def _fresh(self) -> Path:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        return folder

    def _run(self, *command: str) -> float:
        before = _children()
        script = Path(sys.executable).parent / command[0]
        done = subprocess.run(
            [script, *command[1:]], env=self._environment, cwd=self._folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return _children() - before


def main() -> int:
    """Measure, print, write; return 1 where the bar is missed or the results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="30m")
    parser.add_argument("--documents", type=int, nargs="+", default=[10, 5], help="per task")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # waiting threads would count as CPU time
    found: dict[str, Any] = {"model": given.model, "dtype": "float32", "clock": "cpu", **machine()}
    found |= {"copies": len(COPIES), "bar": BAR, "sizes": []}
    for documents in given.documents:
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(Path(scratch), given.model, documents)
            about = {"tasks": bench.tasks, "documents_per_task": documents}
            found["sizes"].append(about | _measure(bench, given.repeats))
        (RESULTS / f"copies-{given.model}-cpu.json").write_text(json.dumps(found, indent=1) + "\n")
    missed = [_verdict(size) for size in found["sizes"]]
    return int(missed[0])


def _measure(bench: Bench, repeats: int) -> dict[str, Any]:
    """Return CPU seconds of every side, the ratios, and how far the results are apart."""
    first = {batch: bench.lm_eval(COPIES[0], batch=batch, plain=True) for batch in BATCHES}
    batch = min(first, key=lambda b: first[b][0])
    seconds: dict[str, list[float]] = {"naive": [], "default": [], "study_of_one": [], "study_of_all": []}
    differences: list[dict[str, Any]] = []
    for repeat in range(repeats):
        copy = COPIES[-repeat % len(COPIES)]
        runs = {}
        seconds["study_of_one"].append(bench.study(GAMMAS[:1], SEEDS[:1])[0])
        taken, runs["naive"] = bench.lm_eval(copy, batch=batch, plain=True) if repeat else first[batch]
        seconds["naive"].append(taken)
        taken, study = bench.study(GAMMAS, SEEDS)
        seconds["study_of_all"].append(taken)
        taken, runs["default"] = bench.lm_eval(copy, batch=batch, plain=False)
        seconds["default"].append(taken)
        differences += [_compared(side, folder, study) for side, folder in runs.items()]
        print({side: round(values[-1], 1) for side, values in seconds.items()}, flush=True)
    more = len(COPIES) - 1
    pairs = zip(seconds["study_of_all"], seconds["study_of_one"], strict=True)
    seconds["further_copy"] = [(whole - one) / more for whole, one in pairs]
    each = statistics.median(seconds["further_copy"])
    return {
        "naive_batch_size": batch,
        "naive_first": {str(b): round(taken, 3) for b, (taken, _) in first.items()},
        **{side: spread(values) for side, values in seconds.items()},
        "ratio": round(statistics.median(seconds["naive"]) / each, 2),
        "ratio_to_default": round(statistics.median(seconds["default"]) / each, 2),
        "largest_difference": max(d["difference"] for d in differences),
        "same_metrics": all(d["same_metrics"] for d in differences),
        "compared_runs": len(differences),
    }


def _compared(side: str, run: Path, study: Path) -> dict[str, Any]:
    """Return how far a run's results are from those of the study's cell of the same identity."""
    results = json.loads(next(run.rglob("results_*.json")).read_text())
    cell = study / results["config"]["overtrain"]["cell_id"]
    if not cell.is_dir():
        raise SystemExit(f"the {side} run evaluated {cell.name}, which is no cell of the study")
    ours = json.loads((cell / "results.json").read_text())["results"]
    difference = 0.0
    for task in results["n-shot"].keys() & results["results"].keys():
        theirs = _likelihoods(next(run.rglob(f"samples_{task}_*.jsonl")))
        mine = _likelihoods(cell / f"samples_{task}.jsonl")
        if theirs.keys() != mine.keys():
            raise SystemExit(f"{task}: other documents were scored")
        difference = max(difference, *(abs(a - b) for key in mine for a, b in zip(mine[key], theirs[key], strict=True)))
    same = all(
        value == ours[task][name] for task, row in results["results"].items() for name, value in row.items()
        if name.startswith(("acc", "primary")) and "stderr" not in name and task in ours
    )  # fmt: skip
    return {"difference": difference, "same_metrics": same}


def _likelihoods(file: Path) -> dict[int, list[float]]:
    """Return document -> log-likelihoods of its requests."""
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {row["doc_id"]: [_number(response[0]) for response in row["resps"]] for row in rows}


def _number(response: Any) -> float:
    return float(response[0] if isinstance(response, list) else response)


def _children() -> float:
    """Return the CPU seconds of all processes that were started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _verdict(found: dict[str, Any]) -> bool:
    """Print a size's figures; return whether it misses the bar."""
    print(f"{found['documents_per_task']} documents of each of {', '.join(found['tasks'])}:")
    for side in ("study_of_one", "study_of_all", "further_copy", "naive", "default"):
        about = found[side]
        print(f"{side:14s} {about['median']:8.2f} s CPU  ({about['low']:.2f} to {about['high']:.2f})")
    print(
        f"a further copy: {found['ratio']} x a naive run (batch size {found['naive_batch_size']}), "
        f"{found['ratio_to_default']} x one with the default scoring; largest difference "
        f"{found['largest_difference']:.1e} nats in {found['compared_runs']} runs"
    )
    missed = [] if found["ratio"] >= BAR else [f"{found['ratio']} < {BAR}"]
    if found["largest_difference"] > TOLERANCE:
        missed.append(f"difference {found['largest_difference']:.1e} > {TOLERANCE}")
    if not found["same_metrics"]:
        missed.append("other accuracies")
    print("bar: " + ("met" if not missed else "MISSED " + "; ".join(missed)))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
