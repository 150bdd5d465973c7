"""The demo's tables, one row per measurement."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.demo.results import Scores
    from overtrain.demo.turning import Verdict

__all__ = ["curves_frame", "results_frame"]

_UNITS = {"loss": "nats per token", "sensitivity": "nats per token", "sensitivity_perplexity": "perplexity"}


def results_frame(scores: Sequence[Scores]) -> pd.DataFrame:
    """Return one row per cell and metric.

    Columns: tokens, modification, gamma, learning_rate and seed (empty where they do not apply), metric, value, stderr
    (over documents, this seed alone).
    """
    rows = [
        {
            "tokens": s.cell.tokens,
            **_modification(s.cell.kind, s.cell.strength),
            "seed": s.cell.seed if s.cell.kind != "base" else None,
            "metric": metric,
            "value": value,
            "stderr": stderr,
        }
        for s in scores
        for metric, (value, stderr) in s.metrics.items()
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def curves_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return one row per curve and budget, with the verdict on the curve in every one of its rows.

    Columns: tokens, modification, gamma, learning_rate, quantity, unit, mean, stderr (over seeds and documents),
    perplexity (exp of a mean loss), seeds, documents, shape, rise_t, fall_t, critical, minimum_after, minimum_before.
    """
    rows = []
    for verdict in verdicts:
        curve = verdict.curve
        after, before = verdict.minimum
        for tokens, mean, stderr in zip(curve.tokens, curve.means, curve.stderr, strict=True):
            rows.append(
                {
                    "tokens": tokens,
                    **_modification(curve.kind, curve.strength),
                    "quantity": curve.quantity,
                    "unit": _UNITS[curve.quantity],
                    "mean": mean,
                    "stderr": stderr,
                    "perplexity": math.exp(mean) if curve.quantity == "loss" else None,
                    "seeds": curve.by_seed.shape[1],
                    "documents": curve.residuals.shape[1],
                    "shape": verdict.shape,
                    "rise_t": verdict.rise,
                    "fall_t": verdict.fall,
                    "critical": verdict.critical,
                    "minimum_after": after,
                    "minimum_before": before,
                }
            )
    return pd.DataFrame(rows).astype({"minimum_after": "Int64", "minimum_before": "Int64"})


def _modification(kind: str, strength: float) -> dict[str, Any]:
    return {
        "modification": kind,
        "gamma": strength if kind == "gaussian" else None,
        "learning_rate": strength if kind == "finetune" else None,
    }
