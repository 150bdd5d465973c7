"""The sides that `benchmarks.finetune` compares, each run in its own process, and the bound for our side."""

from __future__ import annotations

import gc
import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.models import model, tokenizer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from model_wrappers.training.tokenise import TokenisedRow

PACKED = 1024
LEARNING_RATE = 1e-4
PEAKS = {"A100": 312e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12}
"""Dense bfloat16 FLOP/s by name of the device, the first name that fits. Source: NVIDIA's data sheets."""


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Train on one side in this process; return time, memory and the loss of every step."""
    import resource

    import torch

    logging.disable(logging.WARNING)
    rows = _read_rows(given.rows)
    on_cpu = given.device == "cpu"
    side = {"ours": _ours, "trainer-padded": _trainer}.get(given.side, _trl)
    if not on_cpu:
        _warm_up(side, rows, given)
    made = model(given.model, device=given.device)
    with tempfile.TemporaryDirectory() as work:
        start = side(made, rows, Path(work), given)
        clock: Callable[[], float] = time.process_time if on_cpu else time.perf_counter
        started = clock()
        history = start()
        if not on_cpu:
            torch.cuda.synchronize()
        seconds = clock() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if on_cpu else torch.cuda.max_memory_allocated()
    found: dict[str, Any] = {
        "seconds": seconds,
        "tokens_per_second": sum(len(row.input_ids) for row in rows) / seconds,
        "peak_gb": peak / 1e9,
        "model_flops": model_flops(made.config, rows),
        "losses": [entry["loss"] for entry in history if "loss" in entry],
    }
    assert len(found["losses"]) == given.steps
    if given.side.startswith("trl"):
        from importlib.metadata import version

        found["trl"] = version("trl")
    share = None if on_cpu else _utilisation(made.config, rows, seconds)
    return found | ({} if share is None else {"model_flop_utilisation": share})


def _warm_up(side: Callable[..., Callable[[], Any]], rows: list[TokenisedRow], given: argparse.Namespace) -> None:
    """Train another model for two steps: an accelerator loads and chooses its kernels at their first use."""
    import argparse

    import torch

    steps = min(2, given.steps)
    with tempfile.TemporaryDirectory() as work:
        few = argparse.Namespace(**vars(given) | {"steps": steps})
        side(model(given.model, device=given.device), rows[: steps * given.batch], Path(work), few)()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def measure_bound(given: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of the matrix products and attention calls of our side's batches, on data of the same shapes."""
    import torch
    from torch.nn.functional import linear, scaled_dot_product_attention

    from model_wrappers.training.trainer import split_batch

    made, rows = model(given.model, device=given.device), _read_rows(given.rows)
    micro, _ = split_batch(given.batch, given.micro_batch, 1)
    config, dtype = made.config, getattr(torch, given.dtype)
    head = made.get_output_embeddings()
    weights = [m.weight.detach().to(dtype) for m in made.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    last = head.weight.detach().to(dtype)
    width = config.hidden_size // config.num_attention_heads
    clock = _Clock(given.device)

    def products(weight: torch.Tensor, count: int) -> None:
        states, gradients = (torch.randn(count, size, device=given.device, dtype=dtype) for size in weight.shape[::-1])
        clock.run(lambda: (linear(states, weight), gradients @ weight, gradients.T @ states))

    def attention(length: int) -> None:
        shape = (1, config.num_attention_heads, length, width)
        qkv = [torch.randn(shape, device=given.device, dtype=dtype, requires_grad=True) for _ in range(3)]
        clock.run(lambda: scaled_dot_product_attention(*qkv, is_causal=True).sum().backward())

    for start in range(0, len(rows), micro):
        batch = rows[start : start + micro]
        for weight in weights:
            products(weight, sum(len(row.input_ids) for row in batch))
        products(last, int(sum(row.target_mask.sum() for row in batch)))
        for row in batch:
            for _ in range(config.num_hidden_layers):
                attention(len(row.input_ids))
    return {"seconds": clock.seconds}


class _Clock:
    """Adds up the seconds of what it runs: CPU time on a CPU, wall time on an accelerator."""

    def __init__(self, device: str) -> None:
        self._on_cpu = device == "cpu"
        self.seconds = 0.0

    def run(self, do: Callable[[], Any]) -> None:
        started = self._now()
        do()
        self.seconds += self._now() - started

    def _now(self) -> float:
        import torch

        if self._on_cpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def _read_rows(file: Path) -> list[TokenisedRow]:
    import numpy as np

    from model_wrappers.training.tokenise import TokenisedRow

    with np.load(file) as kept:
        borders = np.cumsum(kept["lengths"])[:-1]
        ids, targets = np.split(kept["ids"], borders), np.split(kept["targets"], borders)
    return [TokenisedRow(i, t) for i, t in zip(ids, targets, strict=True)]


def _ours(made: Any, rows: list[TokenisedRow], work: Path, given: argparse.Namespace) -> Callable[[], Any]:
    from model_wrappers.training.trainer import Schedule, train

    schedule = Schedule(
        learning_rate=LEARNING_RATE,
        lr_scheduler="linear",
        warmup_steps=0,
        warmup_ratio=0.0,
        weight_decay=0.0,
        epochs=1.0,
        max_steps=given.steps,
        train_batch_size=given.batch,
        micro_batch_size=given.micro_batch,
        max_grad_norm=1.0,
        l2_to_init=0.0,
        precision="bf16" if given.dtype == "bfloat16" else "fp32",
        gradient_checkpointing=False,
        fsdp=False,
        resume_every=0,
        seed=0,
    )
    return lambda: train(made, rows, [], schedule, pad_id=1, work=work).log


def _common(work: Path, given: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(work),
        "per_device_train_batch_size": given.peer_rows,
        "gradient_accumulation_steps": given.batch // given.peer_rows,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "linear",
        "max_steps": given.steps,
        "max_grad_norm": 1.0,
        "bf16": given.dtype == "bfloat16",
        "seed": 0,
        "data_seed": 0,
        "use_cpu": given.device == "cpu",
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": given.device != "cpu",
    }


def _trainer(made: Any, rows: list[TokenisedRow], work: Path, given: argparse.Namespace) -> Callable[[], Any]:
    import torch
    from transformers import Trainer, TrainingArguments

    from model_wrappers.training.batches import pad_batch

    trainer = Trainer(
        model=made,
        args=TrainingArguments(**_common(work, given), remove_unused_columns=False),
        train_dataset=rows,
        data_collator=lambda batch: {k: torch.from_numpy(v) for k, v in pad_batch(batch, 1).items()},
    )
    return lambda: (trainer.train(), trainer.state.log_history)[1]


def _trl(made: Any, rows: list[TokenisedRow], work: Path, given: argparse.Namespace) -> Callable[[], Any]:
    import warnings

    import datasets
    from trl import SFTConfig, SFTTrainer, pack_dataset

    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict(
        {
            "input_ids": [row.input_ids.tolist() for row in rows],
            "completion_mask": [row.target_mask.astype(int).tolist() for row in rows],
        }
    )
    more: dict[str, Any] = {}
    if given.side == "trl-packing":
        packed = len(pack_dataset(data, PACKED, "bfd"))
        more = {
            "packing": True,
            "packing_strategy": "bfd",
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": -(-packed // given.steps),  # so that all rows are seen in as many steps
        }
    arguments = SFTConfig(
        **_common(work, given) | more,
        max_length=PACKED,
        completion_only_loss=True,
        gradient_checkpointing=False,
    )
    trainer = SFTTrainer(model=made, args=arguments, train_dataset=data, processing_class=tokenizer())
    return lambda: (trainer.train(), trainer.state.log_history)[1]


def sheet_peak(device: str) -> float | None:
    """Return the dense bfloat16 FLOP/s that NVIDIA's data sheet gives ``device``; None for an unlisted one."""
    return next((flops for key, flops in PEAKS.items() if key in device), None)


def model_flops(config: Any, rows: list[TokenisedRow]) -> float:
    """Return the operations of training once on ``rows``: layers per token, output layer per target, causal attention."""
    width, layers = config.hidden_size, config.num_hidden_layers
    per_token = layers * (4 * width**2 + 3 * width * config.intermediate_size)
    tokens, targets = (
        sum(sizes) for sizes in zip(*((len(r.input_ids), r.target_mask.sum()) for r in rows), strict=True)
    )
    attention = sum(2 * len(row.input_ids) ** 2 * width * layers for row in rows)  # causal: half of the products
    return float(3 * (2 * (per_token * tokens + width * config.vocab_size * targets) + attention))


def _utilisation(config: Any, rows: list[TokenisedRow], seconds: float) -> float | None:
    """Return the share of the device's peak that the model's own arithmetic came to; None for an unlisted device."""
    import torch

    peak = sheet_peak(torch.cuda.get_device_name())
    return None if peak is None else model_flops(config, rows) / seconds / peak
