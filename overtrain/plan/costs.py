"""Rough sizes of models and benchmarks, from which the cost of a study is estimated before it runs.

No result depends on these numbers. Numbers marked (measured) were counted on samples of the rows. The others are published
or our assumption. Expect an estimate to be right within a factor of two.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from overtrain.plan.cells import Cell
    from overtrain.study.study import Point

__all__ = ["Machine", "evaluation_tokens", "generated_tokens", "machine_for", "parameters"]

_PARAMETERS = {
    "allenai/OLMo-1B-hf": 1.18e9,
    "allenai/OLMo-2-1124-7B": 7.30e9,
    "LLM360/Amber": 6.74e9,
}
_TASKS = {  # documents, tokens scored per document over all its choices, 5-shot, contexts not shared
    "overtrain_arc_challenge": (1_172, 960),
    "overtrain_arc_easy": (2_376, 840),
    "overtrain_boolq": (3_270, 1_800),
    "overtrain_copa": (100, 180),
    "overtrain_hellaswag": (10_042, 1_440),
    "overtrain_mmlu": (14_042, 2_320),
    "overtrain_openbookqa": (500, 480),
    "overtrain_piqa": (1_838, 420),
    "overtrain_sciq": (1_000, 2_880),
    "overtrain_winogrande": (1_267, 300),
    "overtrain_c4": (5_000, 480),
}
_CORE8 = ("arc_challenge", "arc_easy", "piqa", "winogrande", "boolq", "copa", "sciq", "hellaswag")
_GROUPS = {
    "overtrain_core8": tuple(f"overtrain_{name}" for name in _CORE8),
    "overtrain_ten": tuple(f"overtrain_{name}" for name in (*_CORE8, "openbookqa", "mmlu")),
}
_ANSWERS = (805, 400)  # instructions of AlpacaEval, tokens per answer (assumed)
_BYTES_PER_TOKEN = 4.0
_LADDER_TEXT_TOKENS = 128 * 600 / 1.9


@dataclass(frozen=True)
class Machine:
    """The speed that an estimate of time assumes.

    Attributes:
        name: for people.
        flops: floating-point operations per second in practice.
        seconds_per_cell: fixed time of a cell, e.g. for loading and saving.
        assumption: the assumed speed, in words.
        generated_per_second: generated tokens per second.
    """

    name: str
    flops: float
    seconds_per_cell: float
    assumption: str
    generated_per_second: float


_GPU = Machine(
    "GPU",
    3.5e14,
    60.0,
    "one H100 at 35% of its 989 TFLOP/s in bfloat16, and a minute per cell to load and save",
    3e3,  # (assumed) batches of answers by transformers; vLLM is faster
)
_CORE = Machine(
    "CPU core",
    2e10,
    1.0,
    "tiny models at 20 GFLOP/s (measured with 25,000 parameters), and a second per cell",
    3e3,  # (assumed)
)


def machine_for(sizes: list[float]) -> Machine:
    """Return the machine that the estimate assumes: a CPU core for models below ten million parameters, else a GPU."""
    return _CORE if sizes and max(sizes) < 1e7 else _GPU


def parameters(point: Point) -> float | None:
    """Return the number of parameters, or None if it is unknown.

    For a ladder, the number is exact. For a folder, it follows from the size of the files. For a repository of the hub, it
    comes from a table or from the name (``1B``).
    """
    if point.ladder is not None:
        r = point.ladder.recipe
        return 2.0 * r.vocabulary * r.width + r.layers * (4 * r.width**2 + 3 * r.width * r.mlp)
    if point.local:
        folder = Path(point.repo) / point.subfolder
        size = sum(f.stat().st_size for f in [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
        return size / 4 or None
    if point.repo in _PARAMETERS:
        return _PARAMETERS[point.repo]
    found = re.search(r"(\d+(?:\.\d+)?)([bm])(?![a-z])", point.repo.lower())
    return float(found[1]) * {"b": 1e9, "m": 1e6}[found[2]] if found else None


def evaluation_tokens(cell: Cell) -> tuple[float, list[str]]:
    """Return the tokens that scoring a cell takes, and the tasks whose size is unknown."""
    total, unknown = 0.0, []
    for task in cell.tasks:
        if task == "overtrain_text":
            total += _text_tokens(cell)
            continue
        for name in _GROUPS.get(task, (task,)):
            if name == TASK:
                continue
            if name not in _TASKS:
                unknown.append(name)
                continue
            documents, tokens = _TASKS[name]
            if name == "overtrain_c4":
                documents = int(cell.evaluation.metadata.get("documents") or documents)
            total += min(documents, cell.evaluation.limit or documents) * tokens
    return total, unknown


def generated_tokens(cell: Cell) -> float:
    """Return the tokens that a cell generates. Their time is estimated from tokens per second, not from operations."""
    documents, tokens = _ANSWERS
    return float(min(documents, cell.evaluation.limit or documents) * tokens) if TASK in cell.tasks else 0.0


def _text_tokens(cell: Cell) -> float:
    path = Path(cell.evaluation.text_file or "")
    if not path.is_file():
        return _LADDER_TEXT_TOKENS
    if cell.evaluation.limit and path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as handle:
            texts = [
                json.loads(line).get("text", "") for _, line in zip(range(cell.evaluation.limit), handle, strict=False)
            ]
        return sum(map(len, texts)) / _BYTES_PER_TOKEN
    return path.stat().st_size / _BYTES_PER_TOKEN
