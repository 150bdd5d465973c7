"""Tiny random models and a byte-level tokenizer, made here; nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

SHARED = Path(__file__).parents[2] / "shared" / "data"
TEXT = [
    "The quick brown fox jumps over the lazy dog. Question: what is 2 + 2?\nAnswer: 4",
    "### Instruction:\nGive three tips.\n\n### Response:\nEat well, sleep well, walk.",
    "<|user|>\nHow do I boil an egg?\n<|assistant|>\nPut it into boiling water for eight minutes.",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell reports what a test of the marker ``faults`` did; ``benchmarks.reliability`` counts by it."""
    for item in items:
        mark = item.get_closest_marker("faults")
        if mark is not None:
            item.user_properties.append(("faults", mark.args[0]))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real rows; without it a test skips, in CI it fails."""
    if SHARED.is_dir():
        return SHARED
    if os.environ.get("CI") == "true":
        pytest.fail("CI must have the real rows beside the checkout (../shared/data)")
    pytest.skip("no real rows beside the checkout (../shared/data)")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a weights cache of its own."""
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("OVERTRAIN_CACHE", str(root))
    monkeypatch.delenv("OVERTRAIN_DATA", raising=False)
    return root


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        TEXT * 4,
        trainers.BpeTrainer(
            vocab_size=384,
            special_tokens=["<|endoftext|>", "<|pad|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|pad|>")


def _config(architecture: str, vocab: int, context: int):
    import transformers

    common = {
        "vocab_size": vocab,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "tie_word_embeddings": False,
    }
    name = {"olmo": "OlmoConfig", "olmo2": "Olmo2Config", "llama": "LlamaConfig", "gpt_neox": "GPTNeoXConfig"}[
        architecture
    ]
    return getattr(transformers, name)(**common)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory, tokenizer) -> Callable[..., Path]:
    """Return a function that saves a tiny random model and returns its folder; equal arguments give the same folder."""
    made: dict[tuple, Path] = {}

    def make(architecture: str = "olmo", *, seed: int = 0, context: int = 1024, tied: bool = False) -> Path:
        key = (architecture, seed, context, tied)
        if key not in made:
            import torch
            from transformers import AutoModelForCausalLM

            folder = tmp_path_factory.mktemp(f"{architecture}-{seed}")
            config = _config(architecture, len(tokenizer), context)
            config.tie_word_embeddings = tied
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = AutoModelForCausalLM.from_config(config)
                for name, p in model.named_parameters():  # far enough from 0 that attention and logits matter
                    if p.dim() > 1:
                        torch.nn.init.normal_(p, std=0.3)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make
