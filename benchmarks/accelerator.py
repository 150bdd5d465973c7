"""``python -m benchmarks.accelerator``: the table of speeds on an accelerator, in under eight minutes.

Models have random weights in the 30M and 1B shapes. Scoring the ten benchmarks, 5-shot, is compared with lm-eval's ``hf``
at its best batch size, and with vLLM in lm-eval if vLLM is installed; the start of its engine is not counted. Fine-tuning
is compared with Trainer, and with TRL if it is installed, in useful tokens per second and as a share of the device's peak
FLOP/s. The peak is the data sheet's if the device is listed (`benchmarks.finetune_sides.PEAKS`). The result also has the
largest rate that a few bare bfloat16 matrix products reached. Times are wall times.

The machine needs torch >= 2.11 with CUDA, transformers and accelerate. With ``--wheels DIR``, all other packages come from
wheels in a folder (without torch): they are installed without dependencies into a scratch folder, which precedes the
machine's own packages. Each part runs in its own process with a time limit. If a part fails or has no time left, its reason
is recorded, and the other parts stay. Writes ``benchmarks/results/accelerator.json``. Exits with 1 if a part failed, and
with 2 if there is no accelerator or a needed package is missing. ``--tiny --device cpu`` runs all parts on a quiet CPU core
within a minute; its figures have no meaning.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.models import TASKS, environment, machine, model, requests, tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "accelerator.json"
NEEDED = ("torch", "transformers", "accelerate", "lm_eval", "datasets", "safetensors", "tokenizers")
LEAST_SECONDS = 10.0
"""A part that has less than this left is not started."""


@dataclass(frozen=True)
class Part:
    """One process of the benchmark.

    Attributes:
        name: its key in the results.
        module: of ``benchmarks``, which takes ``--out``.
        arguments: of its command line.
        seconds: that it may take at most.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run every part that time allows, print the table, write the JSON."""
    given = _arguments(argv)
    if given.vllm:
        return _vllm(given)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if given.wheels:
            _install(given.wheels, Path(scratch) / "site")
        refused = _refused(given)
        if refused:
            print(f"error: {refused}", file=sys.stderr)
            return 2
        found: dict[str, Any] = {**machine(given.device), "peak": peak(given.device, tiny=given.tiny)}
        found["versions"] |= _versions()
        found |= {"parts": {}, "left_out": dict(_not_installed())}
        for part in _parts(given):
            left = 60 * given.minutes - (time.monotonic() - started)
            result, why = _run(part, min(part.seconds, left), Path(scratch))
            if why:
                found["left_out"][part.name] = why
            else:
                found["parts"][part.name] = result
            print(f"{time.monotonic() - started:5.0f} s  {part.name}: {why or 'done'}", flush=True)
    found["tiny"] = given.tiny
    found["seconds"] = round(time.monotonic() - started, 1)
    out = given.out or (None if given.tiny else RESULT)
    if out:
        out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    for name, why in found["left_out"].items():
        print(f"left out: {name}: {why}")
    return int(any(part.name in found["left_out"] for part in _parts(given)))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--wheels", type=Path, help="folder of wheels for what the machine lacks")
    parser.add_argument("--models", nargs="+", default=["30m", "1b"], choices=("30m", "1b"))
    parser.add_argument("--documents", type=int, default=16, help="per task")
    parser.add_argument("--minutes", type=float, default=7.5, help="for everything")
    parser.add_argument("--tiny", action="store_true", help="a toy model, to try the path")
    parser.add_argument("--out", type=Path, help=f"write the JSON here ({RESULT.relative_to(ROOT)}; --tiny: nowhere)")
    parser.add_argument("--vllm", help=argparse.SUPPRESS)  # a model's shape, in the process that measures vLLM
    return parser.parse_args(argv)


def _refused(given: argparse.Namespace) -> str | None:
    """Return why nothing can be measured here, with a remedy; None if it can."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; put their wheels into a folder and give it as --wheels DIR"
    if given.device == "cpu" and given.tiny:
        return None
    import torch

    if given.device == "cpu":
        return "--device cpu: this benchmark is about accelerators; --tiny --device cpu tries its path on a CPU"
    if not torch.cuda.is_available():
        return (
            f"--device {given.device}: torch {torch.__version__} finds no accelerator (torch.cuda.is_available() is false); "
            "run this where there is one, or try its path with --tiny --device cpu"
        )
    return None


def _install(wheels: Path, site: Path) -> None:
    """Install the wheels of a folder for this process and those it starts."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        sys.exit(f"error: --wheels {wheels}: no *.whl there; give the folder that holds them")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--no-compile",
        "--target",
        str(site),
    ]
    done = subprocess.run([*pip, *files], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: --wheels {wheels}: pip could not install them: {done.stderr.strip()[-500:]}")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))


def peak(device: str, *, tiny: bool = False) -> dict[str, Any]:
    """Return the device's peak FLOP/s, how it is known, and what bare matrix products reach."""
    import torch

    from benchmarks.finetune_sides import sheet_peak

    on_cpu = device == "cpu"
    dtype = torch.float32 if on_cpu else torch.bfloat16
    best = 0.0
    for size in (256,) if tiny else (4096, 8192, 16384):
        one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for _ in range(8):
            started = time.perf_counter()
            _ = one @ other
            if not on_cpu:
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    listed = None if on_cpu else sheet_peak(torch.cuda.get_device_name())
    return {
        "flops": listed or best,
        "known_by": "NVIDIA's data sheet, dense bfloat16"
        if listed
        else f"the best bare {dtype} matrix product measured here",
        "matrix_product_flops": best,
    }


def _parts(given: argparse.Namespace) -> list[Part]:
    """Return the parts, the most telling first."""
    device = ("--device", given.device)
    if given.tiny:
        few = ("--model", "tiny", *device, "--repeats", "1")
        scoring = (*few, "--documents", "2", "--tasks", "copa", "winogrande", "--batch-sizes", "1", "8")
        tuning = (*few, "--batch", "4", "--steps", "1", "--peer-rows", "2", "--no-bound")
        return [
            Part("scoring-tiny-float32", "scoring", scoring, 200),
            *_tuning_parts("tiny-float32", tuning),
            *_vllm_parts(["tiny"], given),
        ]
    parts = []
    for name in reversed(given.models):
        shape = ("--model", name, *device)
        asked = (*shape, "--documents", str(given.documents))
        steps = ("--batch", "64", "--steps", "30", "--repeats", "1", "--no-bound")
        parts += [
            Part(f"scoring-{name}-bfloat16", "scoring", (*asked, "--dtype", "bfloat16"), 150),
            *_tuning_parts(f"{name}-bfloat16", (*shape, "--dtype", "bfloat16", *steps)),
            *_vllm_parts([name], given),
        ]
        if name == given.models[0]:  # the smaller one: what must be equal is, in single precision
            parts.append(Part(f"scoring-{name}-float32", "scoring", asked, 120))
    return parts


def _tuning_parts(name: str, arguments: tuple[str, ...]) -> list[Part]:
    """Return the part against Trainer, and one against TRL where it is installed: one that fails leaves the other."""
    parts = [Part(f"tuning-{name}", "finetune", (*arguments, "--sides", "ours", "trainer-padded"), 200)]
    if importlib.util.find_spec("trl"):
        sides = ("--sides", "ours", "trl-padded", "trl-packing")
        parts.append(Part(f"tuning-{name}-trl", "finetune", (*arguments, *sides), 200))
    return parts


def _vllm_parts(names: list[str], given: argparse.Namespace) -> list[Part]:
    if importlib.util.find_spec("vllm") is None:
        return []
    asked = ("--device", given.device, "--documents", str(given.documents), *(("--tiny",) if given.tiny else ()))
    return [Part(f"vllm-{name}", "accelerator", ("--vllm", name, *asked), 120) for name in names]


def _not_installed() -> dict[str, str]:
    return {name: "not installed" for name in ("trl", "vllm") if importlib.util.find_spec(name) is None}


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("accelerate", "triton", "trl", "vllm"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _run(part: Part, seconds: float, scratch: Path) -> tuple[dict[str, Any], str]:
    """Run one part in a process group of its own; return its JSON (what there is of it), or why there is none."""
    if seconds < LEAST_SECONDS:
        return {}, "no time left (--minutes)"
    out = scratch / f"{part.name}.json"
    command = [sys.executable, "-m", f"benchmarks.{part.module}", *part.arguments, "--out", str(out)]
    variables = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (scratch / "log").open("w+") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:  # the scoring of the tasks so far is in the file
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started as well
            process.wait()
        log.seek(0)
        said = log.read().strip().splitlines()
    if code is None and not out.is_file():
        return {}, f"stopped after {seconds:.0f} s"
    if not out.is_file():
        return {}, f"ended with {code}: {said[-1] if said else 'no output'}"
    ended = {"stopped_after_seconds": round(seconds, 1)} if code is None else {"missed_a_bar": bool(code)}
    return json.loads(out.read_text()) | ended, ""


def _vllm(given: argparse.Namespace) -> int:
    """Score the ten benchmarks by lm-eval's vLLM model; write seconds per task."""
    from lm_eval.models.vllm_causallms import VLLM

    from benchmarks.models import SHAPES

    os.environ["HF_HUB_OFFLINE"] = "1"
    tasks = ("copa", "winogrande") if given.tiny else TASKS
    with tempfile.TemporaryDirectory() as scratch, environment(VLLM_LOGGING_LEVEL="WARNING"):
        dtype = "float32" if given.device == "cpu" else "bfloat16"
        model(given.vllm, dtype=dtype).save_pretrained(scratch)
        tokenizer().save_pretrained(scratch)
        lm = VLLM(
            pretrained=scratch,
            dtype=dtype,
            batch_size="auto",
            max_model_len=SHAPES[given.vllm]["context"],
            gpu_memory_utilization=0.6,
        )
        lm.loglikelihood(requests(tasks[0], 2), disable_tqdm=True)
        seconds = {}
        for task in tasks:
            asked = requests(task, given.documents)
            started = time.perf_counter()
            lm.loglikelihood(asked, disable_tqdm=True)
            seconds[task] = time.perf_counter() - started
    given.out.write_text(json.dumps({"model": given.vllm, "dtype": dtype, "seconds": seconds}) + "\n")
    return 0


def table(found: dict[str, Any]) -> str:
    """Return the speeds as a Markdown table."""
    rows = ["| what | against | ratio |", "| --- | --- | --- |"]
    parts = found["parts"]
    for name, part in parts.items():
        kind, *shape = name.split("-")
        if kind == "scoring":
            rows.append(_scoring_row(part))
        elif kind == "tuning":
            rows.append(_tuning_row(part, found["peak"]))
        else:
            rows += _vllm_rows(part, parts.get(f"scoring-{shape[0]}-{part['dtype']}"))
    where = f"{found['device']}, {found['date']}, torch {found['versions']['torch']}, {found['seconds']:.0f} s"
    peaks = f"peak {found['peak']['flops'] / 1e12:.4g} TFLOP/s: {found['peak']['known_by']}"
    best = f"bare matrix products here {found['peak']['matrix_product_flops'] / 1e12:.4g} TFLOP/s"
    return "\n".join([where, f"{peaks}; {best}", "", *rows])


def _scoring_row(part: dict[str, Any]) -> str:
    what = f"{len(part['tasks'])} tasks, 5-shot, {part['model']} shape, {part['dtype']}"
    batches = sorted({row["hf_batch_size"] for row in part["tasks"]})
    peer = f"lm-eval's `hf` at its best batch size ({', '.join(batches)})"
    ratios = f"{part['ratio_of_totals']}x in total, geometric mean {part['geometric_mean']}x"
    return f"| {what} | {peer} | {ratios}; within {part['largest_difference']:.0e} nats |"


def _tuning_row(part: dict[str, Any], known: dict[str, Any]) -> str:
    shares = {
        side: about["model_flops"]["median"] / about["seconds"]["median"] / known["flops"]
        for side, about in part["sides"].items()
    }
    peers = ", ".join(
        f"{side} {ratio:.2f}x ({shares[side]:.1%} of peak)" for side, ratio in part["speed_ratios"].items()
    )
    what = f"useful tokens per second, {part['model']} shape, {part['dtype']}"
    return f"| {what} | transformers and TRL | {peers}; ours {shares['ours']:.1%} of peak |"


def _vllm_rows(part: dict[str, Any], scoring: dict[str, Any] | None) -> list[str]:
    if scoring is None:
        return []
    ours = {row["task"]: row["ours"]["median"] for row in scoring["tasks"]}
    both = [task for task in part["seconds"] if task in ours]
    ratio = sum(part["seconds"][task] for task in both) / sum(ours[task] for task in both)
    return [
        f"| {len(both)} tasks, 5-shot, {part['model']} shape, {part['dtype']} | vLLM by lm-eval | {ratio:.2f}x in total |"
    ]


if __name__ == "__main__":
    sys.exit(main())
