"""``python -m benchmarks.finetune``: useful tokens per second of fine-tuning and peak memory, compared with three peers.

The model is random and has a published shape. The rows are real instruction rows (or made-up rows of similar lengths). Four
sides take turns, each in a new process: ours; transformers' ``Trainer`` on padded batches; TRL's ``SFTTrainer`` on padded
batches; and TRL's packing (``bfd``). All sides start from the same tokens. They train all weights on the same rows and
targets, with the same optimiser, precision, rows per optimiser step and number of steps. A useful token is a token of a
row, not padding. Time is CPU time on a CPU and wall time on an accelerator.

Padded peers run 16 rows per forward (``--peer-rows``). With 8 rows, the default of both libraries, they have less padding
and need less memory, which is a harder comparison. Packing runs one packed row of 1,024 tokens. All other settings are the
peers' defaults, except that TRL's recomputation of activations is off.

The result also has the share of the bound: the time of the bare matrix products and attention calls, forward and backward,
that our side needs. On an accelerator, it also has the model FLOP utilisation: the arithmetic of the layers for every
useful token, of the output layer for every target, and of attention, divided by the time and the device's peak. TRL may
have its own environment: ``--trl-python``. Writes ``benchmarks/results/finetune-<model>-<device>.json`` or ``--out``; exits
with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.models import SHAPES, SHARED, environment, machine, spread, tokenizer, words

RESULTS = Path(__file__).parent / "results"
SIDES = ("ours", "trainer-padded", "trl-padded", "trl-packing")
BOUND = "bound"
BARS = {"trainer-padded": 2.5, "trl-padded": 5.0, "trl-packing": 2.0}
MEMORY_BAR = 0.4  # of trainer-padded
TOLERANCE = 1e-3  # nats, of a step's loss against Trainer's, in fp32
PEER_ROWS = 16
"""How much of a padded batch is tokens then is ``padding_efficiency`` in the results."""


def main() -> int:
    """Measure, print, write; return 1 where a bar is missed."""
    given = _arguments()
    if given.side:
        from benchmarks.finetune_sides import measure, measure_bound

        print(json.dumps(measure_bound(given) if given.side == BOUND else measure(given)))
        return 0
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows.npz"
        about = _write_rows(file, given)
        found: dict[str, list[dict[str, Any]]] = {
            side: [] for side in (*given.sides, *([] if given.no_bound else [BOUND]))
        }
        for repeat in range(given.repeats):
            for side, runs in found.items():
                runs.append(_fresh_process(side, file, given))
                print(f"{repeat + 1}/{given.repeats} {side:15s} {_line(runs[-1])}", flush=True)
    result = {
        "model": given.model,
        "dtype": given.dtype,
        "global_batch": given.batch,
        "steps": given.steps,
        "repeats": given.repeats,
        "peer_rows_per_forward": given.peer_rows,
        "clock": "wall" if given.device != "cpu" else "cpu",
        **machine(given.device),
        **about,
        "sides": {side: _summary(runs) for side, runs in found.items()},
    }
    bound = result["sides"].pop(BOUND, {}).get("seconds")
    if bound and "ours" in result["sides"]:
        result["share_of_bound"] = round(bound["median"] / result["sides"]["ours"]["seconds"]["median"], 3)
    result["versions"]["trl"] = next((run["trl"] for runs in found.values() for run in runs if "trl" in run), None)
    result |= _ratios(result["sides"])
    where = given.out or RESULTS / f"finetune-{given.model}-{given.device.partition(':')[0]}.json"
    where.write_text(json.dumps(result, indent=1) + "\n")
    return _verdict(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="30m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16: autocast")
    parser.add_argument("--batch", type=int, default=32, help="rows per optimiser step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--micro-batch", type=int, help="rows per forward of ours; its own choice by default")
    parser.add_argument("--peer-rows", type=int, default=PEER_ROWS, help="rows per forward of the padded peers")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter of an environment that has TRL")
    parser.add_argument("--no-bound", action="store_true", help="leave the bound out")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    parser.add_argument("--side", choices=(*SIDES, BOUND), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.batch % given.peer_rows:
        parser.error(f"--batch {given.batch}: must be a multiple of --peer-rows {given.peer_rows}")
    return given


def _write_rows(file: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Tokenise as many rows as the steps need into ``file``; return what describes them."""
    import numpy as np

    from model_wrappers.training.tokenise import tokenise

    count = given.batch * given.steps
    rows = tokenise(_examples(count), tokenizer(), SHAPES[given.model]["context"]).rows[:count]
    assert len(rows) == count
    lengths = np.array([len(row.input_ids) for row in rows])
    np.savez(
        file,
        ids=np.concatenate([row.input_ids for row in rows]),
        targets=np.concatenate([row.target_mask for row in rows]),
        lengths=lengths,
    )
    order = np.random.default_rng(0).permutation(count).reshape(-1, given.peer_rows)
    return {
        "tokens": int(lengths.sum()),
        "target_share": round(float(np.concatenate([row.target_mask for row in rows]).mean()), 3),
        "padding_efficiency": round(float(lengths[order].sum() / (lengths[order].max(1) * given.peer_rows).sum()), 3),
    }


def _examples(count: int) -> Any:
    """Return Alpaca's rows, or made-up instructions and answers whose lengths vary alike."""
    import random

    from model_wrappers.training.data import DataSpec, load_examples
    from model_wrappers.training.segments import Example, Segment

    if (SHARED / "alpaca").is_dir():
        with environment(OVERTRAIN_DATA=str(SHARED)):
            spec = DataSpec(data="alpaca", data_limit=count + 16, validation_fraction=0.0)
            return load_examples(spec, tokenizer()).train
    rng = random.Random(0)
    made = []
    for number in range(count):
        asked, answer = (max(1, int(rng.lognormvariate(mean, 0.8))) for mean in (3.0, 3.4))
        texts = [" ".join(words(size, 2 * number + part)) for part, size in enumerate((asked, answer))]
        made.append(Example((Segment(texts[0] + "\n", target=False), Segment(texts[1], target=True))))
    return made


def _fresh_process(side: str, file: Path, given: argparse.Namespace) -> dict[str, Any]:
    python = given.trl_python if side.startswith("trl") else sys.executable
    command = [python, "-m", "benchmarks.finetune", "--side", side, "--rows", str(file)]
    for name in ("model", "device", "dtype", "batch", "steps", "peer_rows"):
        command += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
    if given.micro_batch:
        command += ["--micro-batch", str(given.micro_batch)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        if "No module named 'trl'" in done.stderr:
            sys.exit("TRL is missing: pip install 'lm-eval-overtrain[bench]', or give --trl-python or --sides")
        sys.exit(f"{side} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "losses" in runs[0]:
        found["losses"] = [round(loss, 6) for loss in runs[0]["losses"]]
    for name in ("tokens_per_second", "seconds", "peak_gb", "model_flop_utilisation", "model_flops"):
        values = [run[name] for run in runs if name in run]
        if values:
            found[name] = spread(values)
    return found


def _ratios(sides: dict[str, Any]) -> dict[str, Any]:
    if "ours" not in sides:
        return {"speed_ratios": {}, "memory_ratios": {}}
    ours, peers = sides["ours"], {side: found for side, found in sides.items() if side != "ours"}

    def ratio(name: str, peer: dict[str, Any]) -> float:
        return round(ours[name]["median"] / peer[name]["median"], 3)

    found: dict[str, Any] = {
        "speed_ratios": {side: ratio("tokens_per_second", peer) for side, peer in peers.items()},
        "memory_ratios": {side: ratio("peak_gb", peer) for side, peer in peers.items()},
    }
    if "trainer-padded" in peers:  # the same batches in the same order
        pairs = zip(ours["losses"], peers["trainer-padded"]["losses"], strict=True)
        found["largest_loss_difference"] = max(abs(a - b) for a, b in pairs)
    return found


def _line(run: dict[str, Any]) -> str:
    if "tokens_per_second" not in run:
        return f"{run['seconds']:.1f} s"
    share = run.get("model_flop_utilisation")
    shown = "" if share is None else f"   {share:.0%} of peak FLOP/s"
    return f"{run['tokens_per_second']:8.1f} useful tokens/s   peak {run['peak_gb']:5.2f} GB   {run['seconds']:7.1f} s{shown}"


def _verdict(found: dict[str, Any]) -> int:
    for side, ratio in found["speed_ratios"].items():
        print(f"against {side}: {ratio} x the tokens per second, {found['memory_ratios'][side]} of the peak memory")
    if "share_of_bound" in found:
        print(f"share of the bound: {found['share_of_bound']:.0%}")
    missed = []
    if found["model"] == "30m" and found["clock"] == "cpu":
        speed, memory = found["speed_ratios"], found["memory_ratios"].get("trainer-padded")
        missed += [
            f"{side} {speed.get(side, 'not measured')} < {bar}"
            for side, bar in BARS.items()
            if speed.get(side, 0) < bar
        ]
        if memory is None or memory > MEMORY_BAR:
            missed.append(f"peak memory {memory or 'not measured'} > {MEMORY_BAR}")
    if found["dtype"] == "float32" and found.get("largest_loss_difference", 0.0) > TOLERANCE:
        missed.append(f"losses differ from Trainer's by {found['largest_loss_difference']:.1e} > {TOLERANCE}")
    print("bars: " + ("all met" if not missed else "MISSED " + "; ".join(missed)))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
