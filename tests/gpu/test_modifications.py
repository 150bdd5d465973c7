"""Modifications on an accelerator against the same on a CPU."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import INCLUDE, model_args, results, run
from transformers import AutoModelForCausalLM

from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.modifications.gaussian import Gaussian
from model_wrappers.training.tokenise import TokenisedRow
from model_wrappers.training.trainer import Schedule, train

pytestmark = pytest.mark.gpu

SCHEDULE = Schedule(
    learning_rate=1e-3,
    lr_scheduler="cosine",
    warmup_steps=0,
    warmup_ratio=0.0,
    weight_decay=0.0,
    epochs=1.0,
    max_steps=3,
    train_batch_size=8,
    micro_batch_size=None,
    max_grad_norm=1.0,
    l2_to_init=0.0,
    precision="fp32",
    gradient_checkpointing=False,
    fsdp=False,
    resume_every=0,
    seed=0,
)


def load(folder, device="cpu", dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()


def rows(count=24):
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        length = int(rng.integers(8, 60))
        mask = np.arange(length) >= int(rng.integers(1, length))
        made.append(TokenisedRow(rng.integers(2, 300, length).astype(np.int32), mask))
    return made


def state(model):
    return {name: p.detach().cpu() for name, p in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_is_that_of_a_cpu_bit_for_bit(cuda, make_model, tokenizer, dtype):
    folder = make_model("olmo2")
    noise = Gaussian(gamma=0.3, seed=7, init_std="0.02")
    here, there = (
        state(noise.apply(load(folder, device, dtype), tokenizer, Checkpoint(repo=folder)).model)
        for device in ("cpu", cuda)
    )
    plain = state(load(folder, dtype=dtype))
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert any(not torch.equal(here[name], plain[name]) for name in here)


def test_tuning_steps_are_those_of_a_cpu(cuda, make_model, tmp_path):
    folder = make_model("olmo")
    start = state(load(folder))
    here, there = (
        train(load(folder, device), rows(), rows(6), SCHEDULE, pad_id=1, work=tmp_path / str(device))
        for device in ("cpu", cuda)
    )
    assert [e["loss"] for e in there.log] == pytest.approx([e["loss"] for e in here.log], rel=1e-4)
    assert there.metrics["validation_loss"] == pytest.approx(here.metrics["validation_loss"], rel=1e-4)
    one, other = state(here.model), state(there.model)
    moved = sum(float((one[name] - start[name]).abs().sum()) for name in start)
    apart = sum(float((one[name] - other[name]).abs().sum()) for name in start)
    assert apart < 0.02 * moved  # Adam turns the rounding of a gradient near zero into a full step


def test_half_precision_trains_to_nearly_the_same_losses(cuda, make_model, tmp_path):
    folder = make_model("olmo")
    single, half = (
        train(load(folder, cuda), rows(), [], replace(SCHEDULE, precision=p), pad_id=1, work=tmp_path / p).log
        for p in ("fp32", "bf16")
    )
    assert [e["loss"] for e in half] == pytest.approx([e["loss"] for e in single], rel=0.05)
    assert [e["loss"] for e in half] != [e["loss"] for e in single]


@pytest.fixture
def evaluate(make_model, tmp_path):
    """Return a function that tunes and evaluates by ``torchrun`` on one device, in a process of its own."""
    data, text = tmp_path / "sums.jsonl", tmp_path / "text.jsonl"
    sums = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(6) for b in range(6)]
    data.write_text("".join(json.dumps(row) + "\n" for row in sums))
    text.write_text('{"text": "What is 2 + 2? 4. And 3 + 4? 7."}\n' * 4)

    def evaluate(name, **args):
        tuning = {"learning_rate": 1e-3, "max_steps": 3, "train_batch_size": 8, "train_max_length": 64}
        done = run(
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "lm_eval",
            "--model", "overtrain_ft", "--device", "cuda", "--tasks", "overtrain_text", "--include_path", INCLUDE,
            "--model_args", model_args(pretrained=make_model("llama"), data=data, **tuning, **args),
            "--output_path", tmp_path / name,
            OVERTRAIN_TEXT=str(text), OVERTRAIN_CACHE=str(tmp_path / name / "cache"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return results(tmp_path / name)

    return evaluate


def test_fsdp_on_one_device_is_training_without_it(cuda, evaluate):
    plain, sharded = evaluate("plain"), evaluate("sharded", fsdp=True)
    scores = [found["results"]["overtrain_text"]["nll_per_token,none"] for found in (plain, sharded)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    losses = [found["config"]["overtrain"]["modifications"][0]["metrics"]["train_loss"] for found in (plain, sharded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
