"""Pre-training: one independent run with a cosine schedule per budget. Each run writes an ordinary Hugging Face folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import DataError, StoreError
from model_wrappers.files import whole_folder
from overtrain.common.pool import Pool, report
from overtrain.pretrain.model import build, initial_std, initialise
from overtrain.pretrain.prepared import MAXIMUM_EPOCHS, PreparedText

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import torch
    from transformers import PreTrainedModel

    from overtrain.pretrain.recipe import Recipe

__all__ = ["checkpoint_folder", "finished", "pretrain", "train_run"]

_REPORT_EVERY = 25


def checkpoint_folder(recipe: Recipe, budget: int, out: Path) -> Path:
    """Return the folder of the run of ``budget`` under ``out``."""
    return out / f"tokens-{recipe.tokens(budget)}"


def pretrain(
    recipe: Recipe,
    text: PreparedText,
    out: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Path]:
    """Train every budget of ``recipe`` that is not finished under ``out``; return all folders, smallest budget first.

    Worker processes train the runs, the longest run first. A run is deterministic: if it is killed and started again, it
    produces the same bytes.

    Args:
        recipe: shape, budgets and optimiser.
        text: the text that `prepare` returned for this recipe.
        out: folder for one folder per budget.
        workers: number of processes; by default one per CPU.
        progress: called with the number of newly trained tokens.

    Raises:
        DataError: a run would repeat the text more than four times.
        StoreError: ``out`` contains a checkpoint of another recipe or of other text.
    """
    with Pool(workers) as pool:
        for budget in sorted(recipe.budgets, reverse=True):
            if not finished(recipe, budget, text, out):
                pool.submit(str(budget), train_run, recipe, budget, text, out)
        for _ in pool.finished(progress):
            pass
    return [checkpoint_folder(recipe, budget, out) for budget in recipe.budgets]


def finished(recipe: Recipe, budget: int, text: PreparedText, out: Path) -> bool:
    """Return whether the run of ``budget`` is finished.

    Raises:
        StoreError: there is a checkpoint, but of another recipe or of other text.
    """
    folder = checkpoint_folder(recipe, budget, out)
    if not (folder / "overtrain.json").exists():
        return False
    recorded = json.loads((folder / "overtrain.json").read_text("utf-8"))
    if recorded["recipe"] != recipe.run(budget) or recorded["text_sha256"] != text.about["sha256"]:
        raise StoreError(
            f"{folder} was trained by another recipe or on other text; delete it, or give another output folder"
        )
    return True


def train_run(recipe: Recipe, budget: int, text: PreparedText, out: Path) -> Path:
    """Train one budget from the initialisation to a learning rate of 0, and write the checkpoint; return its folder.

    The folder contains the weights, the configuration, the tokenizer, ``init_std.json`` (the initial standard deviation of
    every parameter) and ``overtrain.json`` (tokens, recipe, text, loss). The bytes depend on the number of torch's threads;
    `Pool` uses one thread.

    Raises:
        DataError: the run would repeat the text more than four times.
    """
    import torch

    tokens = text.tokens()
    tokenizer = text.tokenizer()
    with torch.random.fork_rng(devices=[]):  # transformers' own initialisation draws from the global generator
        model = build(recipe, tokenizer.eos_token_id)
    deviations = initial_std(model, recipe)
    initialise(model, deviations, recipe.seed)
    loss = _train(model, recipe, budget, tokens)

    folder = checkpoint_folder(recipe, budget, out)
    about = {
        "tokens": recipe.tokens(budget),
        "budget": budget,
        "seed": recipe.seed,
        "recipe": recipe.run(budget),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "text_sha256": text.about["sha256"],
        "epochs": recipe.tokens(budget) / len(tokens),
        "learning_rate_final": recipe.learning_rate(recipe.steps(budget), recipe.steps(budget)),
        "train_loss_last_tenth": loss,
    }
    with whole_folder(folder) as fresh:
        model.eval().save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        _write_json(fresh / "init_std.json", {"source": "overtrain.pretrain.model.initial_std", "std": deviations})
        _write_json(fresh / "overtrain.json", about)
    return folder


def _train(model: PreTrainedModel, recipe: Recipe, budget: int, tokens: np.ndarray[Any, Any]) -> float:
    """Train in place; return the mean loss of the last tenth of the steps, in nats per token."""
    import torch
    from torch.nn.functional import cross_entropy

    steps = recipe.steps(budget)
    windows = _order(recipe, steps, len(tokens))
    offsets = torch.arange(recipe.context + 1)
    source = torch.from_numpy(tokens.astype("int32"))
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(
        parameters,
        lr=recipe.peak_learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    model.train()
    tail: list[torch.Tensor] = []
    for step in range(steps):
        starts = windows[step * recipe.batch : (step + 1) * recipe.batch] * recipe.context
        batch = source[starts[:, None] + offsets].long()  # (batch, context + 1)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate(step, steps)
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits  # (batch, context, vocabulary)
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clipping)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step >= steps - max(1, steps // 10):
            tail.append(loss.detach())
        if (step + 1) % _REPORT_EVERY == 0 or step + 1 == steps:
            report(recipe.tokens_per_step * (step % _REPORT_EVERY + 1))
    return float(torch.stack(tail).mean())


def _order(recipe: Recipe, steps: int, available: int) -> torch.Tensor:
    """Return the window of text for each sequence of the run, shape (steps * batch,), int64.

    Window k contains tokens k * context to (k + 1) * context; the last token is only a target. Every pass over the text is a
    permutation of the windows that depends only on the seed and the number of the pass. So all budgets begin with the same
    sequences.
    """
    import numpy as np
    import torch

    windows = (available - 1) // recipe.context
    needed = steps * recipe.batch
    if needed > MAXIMUM_EPOCHS * windows:
        raise DataError(
            f"{needed * recipe.context:,} tokens would repeat the text of {available:,} tokens more than "
            f"{MAXIMUM_EPOCHS} times; lower the budget or prepare more text"
        )
    passes = -(-needed // windows)
    orders = [np.random.default_rng([recipe.seed, epoch]).permutation(windows) for epoch in range(passes)]
    return torch.from_numpy(np.concatenate(orders)[:needed])


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
