"""The cells' JSON files, read into arrays and a tidy frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from overtrain.demo.evaluate import TASK

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from overtrain.demo.plan import Cell, Plan

__all__ = ["METRICS", "Scores", "read"]

METRICS = ("nll_per_token", "token_perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Scores:
    """What one cell measured.

    Attributes:
        cell: which.
        metrics: name of each metric -> (value, standard error over documents).
        nll: summed negative log-likelihood of each document in nats, shape (documents,).
        tokens: scored tokens of each document, shape (documents,).
        documents: lm-eval's hash of each document.
    """

    cell: Cell
    metrics: dict[str, tuple[float, float]]
    nll: np.ndarray[Any, np.dtype[np.float64]]
    tokens: np.ndarray[Any, np.dtype[np.float64]]
    documents: tuple[str, ...]


def read(plan: Plan, out: Path) -> list[Scores]:
    """Read every cell of ``plan`` under ``out``.

    Raises:
        StoreError: two cells were not evaluated on the same documents, so that they cannot be paired.
    """
    scores = [_read(cell, plan.result(cell, out)) for tokens in plan.tokens for cell in plan.cells(tokens)]
    for other in scores[1:]:
        if other.documents != scores[0].documents:
            raise StoreError(
                f"{plan.result(other.cell, out)} was evaluated on other documents than "
                f"{plan.result(scores[0].cell, out)}; delete the older of the two and run the demo again"
            )
    return scores


def _read(cell: Cell, path: Path) -> Scores:
    import numpy as np

    try:
        content = json.loads(path.read_text("utf-8"))
        found = content["results"][TASK]
        samples = sorted(content["samples"][TASK], key=lambda sample: sample["doc_id"])
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path} is not the result of a cell ({error!r}); delete it and run the demo again") from error
    pairs = np.array([sample["nll_per_token"] for sample in samples], dtype=np.float64)
    return Scores(
        cell=cell,
        metrics={name: (found[f"{name},none"], found[f"{name}_stderr,none"]) for name in METRICS},
        nll=-pairs[:, 0],
        tokens=pairs[:, 1],
        documents=tuple(sample["doc_hash"] for sample in samples),
    )
