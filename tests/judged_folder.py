"""Writes what ``overtrain judge`` leaves beside a study's cells, from verdicts that are given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TASK = "overtrain_alpaca_eval"


def write_judged(
    root: Path,
    wins: Callable[[Mapping[str, Any], np.random.Generator], np.ndarray | None],
    *,
    reference: Callable[[Mapping[str, Any]], bool],
    default: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Mark the tuned cells of ``root`` as answering and judge them; return the contents of ``judge/scores.json``.

    Args:
        root: a study's folder.
        wins: entry of a cell -> win of every instruction in percent; NaN has no verdict, None is a cell not judged.
        reference: whether an entry is the reference; the first that is.
        default: what ``scores.json`` says of it.
        seed: of the generator that ``wins`` gets.
    """
    rng = np.random.default_rng(seed)
    manifest = json.loads((root / "study.json").read_text())
    tuned = [entry for entry in manifest["cells"] if entry["fields"].get("learning_rate") is not None]
    for entry in tuned:
        entry["answers"] = True
    (root / "study.json").write_text(json.dumps(manifest))
    chosen = next(entry for entry in tuned if reference(entry))
    about = {
        "cell_id": chosen["cell_id"],
        "label": chosen["label"],
        "tokens": chosen["tokens"],
        "run": chosen["run"],
        "seed": chosen["seed"],
        "learning_rate": chosen["fields"].get("learning_rate"),
        "default": default,
    }
    folder = root / "judge" / "documents"
    folder.mkdir(parents=True)
    cells = {}
    for entry in tuned:
        cell = {"reference": chosen["cell_id"], "documents": 0, "missing": 0, "missing_by_reason": {}}
        cell |= {"broken_special": 0, "one_token": 0}
        if entry is chosen:
            cells[entry["cell_id"]] = cell | {"rows": [row("win_rate", 50.0)]}
            continue
        values = wins(entry, rng)
        if values is None:
            continue
        known = np.isfinite(values)
        table = pd.DataFrame({"document": np.arange(len(values)), "win": values, "first": values, "second": values})
        table = table.assign(length=200.0, length_difference=np.arange(len(values)) % 7 - 3.0)[known]
        table.to_parquet(folder / f"{entry['cell_id']}.parquet", index=False)
        count, win = int(known.sum()), float(values[known].mean())
        error = float(values[known].std(ddof=1) / np.sqrt(count))
        rows = [row("win_rate", win, error, count), row("position_bias", 1.5, None, count, better=None)]
        rows += [row("length", 200.0, None, count, better=None)]
        rows += [row("length_difference", float(table["length_difference"].mean()), None, count, better=None)]
        rows += [row("missing", float((~known).sum()), None, count, better=False)]
        cells[entry["cell_id"]] = cell | {"documents": len(values), "missing": int((~known).sum()), "rows": rows}
    judge = {"model": "judge-70b", "template": "alpaca_eval_clf", "template_sha256": "0" * 64, "orders": "both"}
    group = {"family": chosen["family"], "variant": chosen["variant"], "reference": about}
    content = {
        "format": 1,
        "judge": judge | {"alpaca_eval": "0.6.6"},
        "task": TASK,
        "groups": [group],
        "cells": cells,
    }
    (root / "judge" / "scores.json").write_text(json.dumps(content))
    return content


def row(
    metric: str, value: float, stderr: float | None = None, count: int | None = None, *, better: bool | None = True
) -> dict[str, Any]:
    """Return one row of metrics as ``scores.json`` has it."""
    about = {"task": TASK, "metric": metric, "value": value, "stderr": stderr}
    return about | {"n_documents": count, "higher_is_better": better}
