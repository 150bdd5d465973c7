"""Scoring by prefixes on an accelerator: compiled FlexAttention against lm-eval's own path, and memory against the estimate."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from torch.nn.attention.flex_attention import flex_attention

from model_wrappers.compat import instance
from model_wrappers.lm import PerturbedLM
from model_wrappers.scoring import attention, engine, proofs
from model_wrappers.scoring.score import ScoringPlan, budget, score
from model_wrappers.scoring.tokens import Request

pytestmark = pytest.mark.gpu

CONTEXTS = ["The quick brown fox jumps over the lazy dog. " * 9, "Eat", "How do I boil an egg? " * 40]
PAIRS = [(context, f" {word}") for context in CONTEXTS for word in ("fox", "well", "quick brown", "eggs")]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(engine, "_plans", type(engine._plans)())
    monkeypatch.setattr(proofs, "_known", {})


@pytest.fixture
def calls(monkeypatch):
    """Counts what FlexAttention is asked."""
    counted = []
    whole = attention._flex

    def flex(query, *rest):
        counted.append(tuple(query.shape))
        return whole(query, *rest)

    monkeypatch.setattr(attention, "_flex", flex)
    return counted


def values(lm):
    asked = [instance("loglikelihood", pair, task="t", document=i, index=i) for i, pair in enumerate(PAIRS)]
    return lm.loglikelihood(asked, disable_tqdm=True)


def ours(folder, **more):
    return PerturbedLM(pretrained=str(folder), gamma=0, device="cuda", **more)


def hf(folder, device="cuda", **more):
    return HFLM(pretrained=str(folder), device=device, batch_size=1, softmax_dtype="float32", **more)


@pytest.mark.parametrize("architecture", ["olmo", "olmo2", "llama", "gpt_neox"])
def test_compiled_flex_attention_scores_as_hf_in_single_precision(cuda, make_model, calls, architecture):
    folder = make_model(architecture)
    found, expected = values(ours(folder, dtype="float32")), values(hf(folder, dtype="float32"))
    assert calls, "FlexAttention was not asked"
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4, rel=1e-5)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_in_half_precision_it_is_as_far_from_single_precision_as_hf(cuda, make_model, calls):
    folder = make_model("olmo")
    single = np.array([v for v, _ in values(hf(folder, device="cpu", dtype="float32"))])
    found = np.array([v for v, _ in values(ours(folder, dtype="bfloat16"))])
    expected = np.array([v for v, _ in values(hf(folder, dtype="bfloat16"))])
    assert calls, "FlexAttention was not asked"
    assert np.abs(found - single).mean() < 2 * np.abs(expected - single).mean() + 0.05


def test_a_compile_error_ends_on_lm_evals_path(cuda, make_model, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("no C compiler")

    compiled = torch.compile(flex_attention, backend=broken)
    monkeypatch.setattr(attention, "_compiled", lambda: compiled)
    folder = make_model("olmo")
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        found = values(ours(folder, dtype="float32"))
    assert [v for v, _ in found] == pytest.approx([v for v, _ in values(hf(folder, dtype="float32"))], abs=1e-4)
    assert "FlexAttention could not be compiled on cuda" in caplog.text


def test_a_pass_takes_no_more_memory_than_the_estimate_leaves(cuda):
    """Passes get half of the free memory and masks a quarter; a quarter is the reserve for logits and the allocator."""
    from transformers import OlmoConfig, OlmoForCausalLM

    config = OlmoConfig(
        vocab_size=50_304, hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=6,
        max_position_embeddings=1024, eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = OlmoForCausalLM(config).to(cuda).eval()
    free, _ = torch.cuda.mem_get_info(cuda)
    size = budget(model, cuda, 1024)
    rng = np.random.default_rng(0)
    requests = [Request(rng.integers(2, 50_000, 1024).astype(np.int32), 8) for _ in range(-(-size // 1023))]
    before = torch.cuda.memory_allocated(cuda)
    torch.cuda.reset_peak_memory_stats(cuda)
    plan = ScoringPlan(requests, 1024)
    assert len(max(plan.rows(size), key=lambda row: len(row.tokens)).tokens) > 0.9 * min(size, 1023 * len(requests))
    score(model, plan, cuda, size)
    taken = torch.cuda.max_memory_allocated(cuda) - before
    assert taken < 0.9 * free, f"{taken / 1e9:.1f} GB of {free / 1e9:.1f} GB for {size} tokens"
    assert taken > 0
