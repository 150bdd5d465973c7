"""``python -m benchmarks.scoring``: compares scoring by prefixes with lm-eval's ``hf`` model on the ten benchmarks, 5-shot.

The model is random and has a published shape. The rows are real (or made-up rows of the same lengths). ``hf`` runs at batch
sizes 1, 8 and auto, and its best batch size counts. Both sides take turns, each in its own process, and tokenising is
included. Time is CPU time on a CPU and wall time on an accelerator. Besides the ratio, the result has the largest
difference of a log-likelihood, whether all choices are equal, and the share of the bound: the time of the bare matrix
products and attention calls that scoring by prefixes needs. Writes ``benchmarks/results/scoring-<model>-<device>.json``, or
``--out``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.models import SHAPES, TASKS, machine, model, requests, spread, tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

RESULTS = Path(__file__).parent / "results"
BARS = {"30m": {"total": 6.0, "least": 2.5}, "1b": {"mean": 2.5}}
BATCHES = (1, 8, "auto")
TOLERANCE = 1e-4  # nats, in fp32


def main() -> int:
    """Measure, print, write; return 1 where a bar is missed."""
    given = _arguments()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    logging.disable(logging.WARNING)
    prefixes = _Prefixes(given)
    made = model(given.model, dtype=given.dtype, device=given.device)
    tokens = tokenizer()
    rows = []
    if given.device != "cpu":  # kernels are compiled and libraries set up at first use
        _task(given, made, tokens, requests(given.tasks[0], given.documents), prefixes)
    found: dict[str, Any] = {}
    for task in given.tasks:
        row = _task(given, made, tokens, requests(task, given.documents), prefixes)
        rows.append({"task": task} | row)
        print(_line(rows[-1]), flush=True)
        found = {
            "model": given.model,
            "dtype": given.dtype,
            "documents_per_task": given.documents,
            "clock": "wall" if given.device != "cpu" else "cpu",
            **machine(given.device),
            "tasks": rows,
            **_summary(rows),
        }
        if given.out:  # whoever stops this has the tasks so far
            given.out.write_text(json.dumps(found, indent=1) + "\n")
    if not given.out:
        where = RESULTS / f"scoring-{given.model}-{given.device}.json"
        where.write_text(json.dumps(found, indent=1) + "\n")
    return _verdict(found, given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="30m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--documents", type=int, default=12, help="per task")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--batch-sizes", nargs="+", default=[str(b) for b in BATCHES], help="of hf")
    parser.add_argument("--out", type=Path, help="write the JSON here, after every task")
    return parser.parse_args()


class _Prefixes:
    """Scoring by prefixes in a process of its own: what our models ask of the C library, ``hf`` must not profit from.

    Args:
        given: the command line.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        context.Process(target=_serve, args=(given, theirs), daemon=True).start()
        theirs.close()

    def score(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, list[tuple[float, bool]]]:
        """Return seconds and the scores."""
        self._pipe.send(("score", pairs))
        seconds, scores = self._pipe.recv()
        return seconds, scores

    def bound(self, pairs: Sequence[tuple[str, str]]) -> float:
        """Return the seconds of `_bound`."""
        self._pipe.send(("bound", pairs))
        return float(self._pipe.recv())


def _serve(given: argparse.Namespace, pipe: Connection) -> None:
    from model_wrappers.memory import keep_freed_memory

    logging.disable(logging.WARNING)
    if given.device == "cpu":
        keep_freed_memory()
    lm = _peer(model(given.model, dtype=given.dtype, device=given.device), tokenizer(), "1", given)
    with contextlib.suppress(EOFError):  # the other side has ended
        while True:
            what, pairs = pipe.recv()
            pipe.send(
                _timed(lambda pairs=pairs: _ours(lm, pairs), given) if what == "score" else _bound(lm, pairs, given)
            )


def _task(given: argparse.Namespace, made: Any, tokens: Any, asked: list[Any], prefixes: _Prefixes) -> dict[str, Any]:
    """Return times (seconds), ratio and differences of one task."""
    peers = {batch: _peer(made, tokens, batch, given) for batch in given.batch_sizes}
    pairs = [request.args for request in asked]
    first: dict[str, float] = {}
    expected: list[tuple[float, bool]] = []
    for batch, peer in peers.items():
        first[batch], expected = _timed(lambda peer=peer: peer.loglikelihood(asked, disable_tqdm=True), given)
    best = min(first, key=first.__getitem__)
    ours: list[float] = []
    theirs = [first[best]]
    result: list[tuple[float, bool]] = []
    for repeat in range(given.repeats):
        seconds, result = prefixes.score(pairs)
        ours.append(seconds)
        if repeat + 1 < given.repeats:
            seconds, expected = _timed(lambda: peers[best].loglikelihood(asked, disable_tqdm=True), given)
            theirs.append(seconds)
    bound = prefixes.bound(pairs)
    return _against_single(given, tokens, pairs, result, expected) | {
        "requests": len(asked),
        "hf_batch_size": best,
        "hf_first": {b: round(s, 3) for b, s in first.items()},
        "hf": spread(theirs),
        "ours": spread(ours),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "share_of_bound": round(bound / statistics.median(ours), 3),
        "largest_difference": max(abs(a - b) for (a, _), (b, _) in zip(result, expected, strict=True)),
        "same_greedy": [g for _, g in result] == [g for _, g in expected],
        "same_choices": _choices(asked, result) == _choices(asked, expected),
    }


def _against_single(
    given: argparse.Namespace,
    tokens: Any,
    pairs: Sequence[tuple[str, str]],
    ours: list[tuple[float, bool]],
    theirs: list[tuple[float, bool]],
) -> dict[str, Any]:
    """Return, for half precision, how far both sides are from single precision: mean and largest difference, nats."""
    if given.dtype == "float32":
        return {}
    single = _ours(_peer(model(given.model, device=given.device), tokens, "1", given), pairs)
    found = {}
    for side, scores in (("ours", ours), ("hf", theirs)):
        apart = [abs(a - b) for (a, _), (b, _) in zip(scores, single, strict=True)]
        found[f"{side}_from_fp32"] = {"mean": statistics.mean(apart), "largest": max(apart)}
    return found


def _peer(made: Any, tokens: Any, batch: str, given: argparse.Namespace) -> Any:
    from lm_eval.models.huggingface import HFLM

    size = batch if batch == "auto" else int(batch)
    return HFLM(
        pretrained=made,
        tokenizer=tokens,
        batch_size=size,
        max_batch_size=16 if given.device == "cpu" else 64,  # auto probes whole contexts: 64 take 13 GB of logits
        max_length=SHAPES[given.model]["context"],
        device=given.device,
    )


def _timed(do: Callable[[], Any], given: argparse.Namespace) -> tuple[float, Any]:
    import torch

    clock = time.perf_counter if given.device != "cpu" else time.process_time
    started = clock()
    found = do()
    if given.device != "cpu":
        torch.cuda.synchronize()
    return clock() - started, found


def _ours(lm: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    """Score by prefixes from the texts on, with nothing kept from before."""
    from model_wrappers.scoring.score import ScoringPlan, budget, score
    from model_wrappers.scoring.tokens import encode

    plan = ScoringPlan(encode(lm, pairs), lm.max_length)
    return score(lm.model, plan, lm.device, budget(lm.model, lm.device, lm.max_length))


def _bound(lm: Any, pairs: Sequence[tuple[str, str]], given: argparse.Namespace) -> float:
    """Return the seconds of the matrix products and attention calls alone, on data of the same shapes."""
    import numpy as np
    import torch

    from model_wrappers.scoring.attention import attention_alone, by_token, last_layer
    from model_wrappers.scoring.score import ScoringPlan, budget
    from model_wrappers.scoring.tokens import encode

    config = lm.model.config
    plan = ScoringPlan(encode(lm, pairs), lm.max_length)
    parts = {id(m) for part in by_token(last_layer(lm.model)) for m in part.modules()}
    linear = [m for m in lm.model.base_model.modules() if isinstance(m, torch.nn.Linear)]
    head = lm.model.get_output_embeddings()

    def states(rows: int, width: int) -> torch.Tensor:
        return torch.randn(rows, width, device=lm.device, dtype=lm.model.dtype)

    seconds = 0.0
    for row in plan.rows(budget(lm.model, lm.device, lm.max_length)):
        read = np.unique(np.concatenate(row.paths))
        thin = 2 * len(read) < len(row.tokens)
        inputs = [(m, states(len(read) if thin and id(m) in parts else len(row.tokens), m.in_features)) for m in linear]
        shape = (1, config.num_attention_heads, len(row.tokens), config.hidden_size // config.num_attention_heads)
        qkv = torch.randn(shape, device=lm.device, dtype=lm.model.dtype)
        final = states(len(read), config.hidden_size)

        def products(
            row: Any = row, read: Any = read, inputs: Any = inputs, qkv: Any = qkv, final: Any = final
        ) -> None:
            with torch.inference_mode():
                for module, given_states in inputs:
                    module(given_states)
                attention_alone(row, read, qkv, config.num_hidden_layers)
                head(final)

        taken, _ = _timed(products, given)
        seconds += taken
    return seconds


def _choices(asked: list[Any], scores: list[tuple[float, bool]]) -> list[int]:
    """Return the best choice of every document: neighbouring requests with one context (or one continuation) are one."""
    groups: list[list[float]] = []
    before: Any = object()
    for request, (value, _) in zip(asked, scores, strict=True):
        document = getattr(request, "doc_id", None), getattr(request, "task_name", request.args[0])
        if document != before:
            groups.append([])
        groups[-1].append(value)
        before = document
    return [values.index(max(values)) for values in groups]


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    total = {side: sum(row[side]["median"] for row in rows) for side in ("hf", "ours")}
    return {
        "ratio_of_totals": round(total["hf"] / total["ours"], 2),
        "geometric_mean": round(statistics.geometric_mean(row["ratio"] for row in rows), 2),
        "least_ratio": min(row["ratio"] for row in rows),
        "largest_difference": max(row["largest_difference"] for row in rows),
        "share_of_bound": round(sum(row["share_of_bound"] * row["ours"]["median"] for row in rows) / total["ours"], 3),
    }


def _line(row: dict[str, Any]) -> str:
    hf, ours = row["hf"]["median"], row["ours"]["median"]
    return (
        f"{row['task']:14s} hf (batch {row['hf_batch_size']:>4s}) {hf:8.2f} s   ours {ours:7.2f} s   {row['ratio']:5.2f} x   "
        f"largest difference {row['largest_difference']:.1e} nats   bound {row['share_of_bound']:.0%}"
    )


def _verdict(found: dict[str, Any], given: argparse.Namespace) -> int:
    print(
        f"ten tasks: {found['ratio_of_totals']} x in total, geometric mean {found['geometric_mean']} x, least "
        f"{found['least_ratio']} x; largest difference {found['largest_difference']:.1e} nats; "
        f"{found['share_of_bound']:.0%} of the bound"
    )
    bars = BARS.get(given.model, {}) if given.device == "cpu" and set(given.tasks) == set(TASKS) else {}
    missed = [
        f"{name} {found[key]} < {bars[name]}"
        for name, key in (("total", "ratio_of_totals"), ("least", "least_ratio"), ("mean", "geometric_mean"))
        if name in bars and found[key] < bars[name]
    ]
    if given.dtype == "float32":
        if found["largest_difference"] > TOLERANCE:
            missed.append(f"difference {found['largest_difference']:.1e} > {TOLERANCE}")
        missed += [f"{r['task']}: other choices" for r in found["tasks"] if not r["same_choices"]]
    met = "all met" if bars else "none for this choice of model, device and tasks"
    print("bars: " + ("MISSED " + "; ".join(missed) if missed else met))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
