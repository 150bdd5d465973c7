"""Models and requests of the speed benchmarks: random weights in published shapes, and real rows if there are any."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import statistics
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHARED = Path(__file__).parents[2] / "shared" / "data"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lm-eval-overtrain-benchmarks"

SHAPES: dict[str, dict[str, int]] = {
    # no published one: lets a benchmark's whole path run in seconds
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "context": 1024,
    },
    # Springer et al. (2025), Table 3
    "15m": {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "context": 1024,
    },
    "30m": {
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "context": 1024,
    },
    "90m": {
        "hidden_size": 576,
        "intermediate_size": 2304,
        "num_hidden_layers": 9,
        "num_attention_heads": 9,
        "context": 1024,
    },
    # allenai/OLMo-1B-hf, config.json
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "context": 2048,
    },
}
VOCABULARY = 50_304

TASKS = (
    *("arc_challenge", "arc_easy", "boolq", "copa", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande", "mmlu"),
)
# Choices and tokens of a 5-shot context and of a choice, medians of the real rows: for machines without them.
SYNTHETIC = {
    "arc_challenge": (4, 290, 5),
    "arc_easy": (4, 250, 4),
    "boolq": (2, 1000, 1),
    "copa": (2, 110, 7),
    "hellaswag": (4, 480, 25),
    "openbookqa": (4, 120, 4),
    "piqa": (2, 250, 20),
    "sciq": (4, 700, 2),
    "winogrande": (2, 160, 8),
    "mmlu": (4, 700, 1),
}


def model(name: str, *, dtype: str = "float32", device: str = "cpu", seed: int = 0) -> Any:
    """Return an OLMo of the shape called ``name`` with random weights, in evaluation mode."""
    import torch
    from transformers import OlmoConfig, OlmoForCausalLM

    shape = dict(SHAPES[name])
    context = shape.pop("context")
    config = OlmoConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        dtype=dtype,
        **shape,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return OlmoForCausalLM(config).to(device=device, dtype=getattr(torch, dtype)).eval()


def tokenizer() -> Any:
    """Return a byte-level tokenizer trained on the real rows, kept between runs; on made-up words without them."""
    from transformers import AutoTokenizer

    place = CACHE / ("real" if SHARED.is_dir() else "synthetic")
    if not (place / "tokenizer.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        _train().save_pretrained(place)
    return AutoTokenizer.from_pretrained(place)


def _train() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    files = sorted(SHARED.rglob("*.jsonl")) if SHARED.is_dir() else []
    texts = (f.read_text("utf-8")[:2_000_000] for f in files) if files else iter([" ".join(words(200_000, 0))])
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 24,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|pad|>")


def words(count: int, seed: int) -> list[str]:
    """Return made-up words, a few frequent and many rare ones."""
    rng = random.Random(seed)
    letters = "etaoinshrdlucmfw"
    return ["".join(rng.choices(letters, k=2 + min(int(rng.expovariate(0.4)), 9))) for _ in range(count)]


def requests(task: str, documents: int) -> list[Any]:
    """Return lm-eval's requests of a benchmark, 5-shot: from real rows, or made up with the same lengths."""
    if SHARED.is_dir():
        return _real(task, documents)
    from types import SimpleNamespace

    choices, context, continuation = SYNTHETIC[task]
    made = []
    for document in range(documents):
        text = " ".join(words(context // 2, document))
        made += [
            SimpleNamespace(args=(text, " " + " ".join(words(max(continuation // 2, 1), 1000 * document + choice))))
            for choice in range(choices)
        ]
    return made


def _real(task: str, documents: int) -> list[Any]:
    from lm_eval.tasks import TaskManager

    import overtrain_tasks

    with environment(OVERTRAIN_DATA=str(SHARED)):
        manager = TaskManager(include_defaults=False, include_path=str(overtrain_tasks.path()))
        (one,) = manager.load([f"overtrain_{task}"])["tasks"].values()
        one.set_config("num_fewshot", 5)
        one.set_fewshot_seed(1234)
        if task != "mmlu":
            one.build_all_requests(limit=documents, rank=0, world_size=1)
            return list(one.instances)
        # MMLU's rows go through its 57 subjects in turn. A whole run has 246 questions of a subject on average, and these
        # share their examples: so few questions are taken from as few subjects as hold them, not one from each.
        one.build_all_requests(limit=57 * documents, rank=0, world_size=1)
        subjects = list(dict.fromkeys(r.doc["subject"] for r in one.instances))
        taken = sorted(one.instances, key=lambda r: (subjects.index(r.doc["subject"]), r.doc_id, r.idx))
        return taken[: 4 * documents]


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return what a figure was measured on, and when."""
    import torch

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else f"{name}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("lm_eval", "torch", "transformers")},
        "rows": "real" if SHARED.is_dir() else "synthetic, of the same lengths",
    }


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Return median and range, rounded."""
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, digits) for name, value in found.items()}
