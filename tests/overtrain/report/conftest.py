"""Synthetic studies with a known answer, as frames and as a run folder. No model is run."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

BUDGETS = (1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000)
RATES = (1e-4, 3e-4, 1e-3)
GAMMAS = (0.1, 0.3)

# Loss added by a modification at each budget; the base falls by 0.3 per budget from 4.
ADDED = {
    "u": (0.0, 0.05, 0.3, 0.9, 1.6),  # minimum at 4M
    "flat": (0.0, 0.3, 0.6, 0.9, 1.2),  # the modified loss is the same at every budget
    "fall": (0.02, 0.02, 0.02, 0.02, 0.02),
}


def study_frames(
    shape: str = "u",
    *,
    budgets=BUDGETS,
    rates=RATES,
    gammas=GAMMAS,
    seeds: int = 3,
    tasks=("alpha", "beta"),
    documents: int = 40,
    name: str = "synthetic",
    families=("tiny",),
    tuning: str = "tuning",
    noise: str = "noise",
    data: str = "rows",
    shift: float = 0.0,
):
    """Return the frame and the documents of a study whose curves are ``ADDED[shape]`` above the base."""
    rng = np.random.default_rng(0)
    rows, scores = [], []
    text = rng.normal(0, 0.3, documents)
    own = {task: rng.normal(0, 0.15, documents) for task in tasks}
    for family in families:
        for place, budget in enumerate(budgets):
            cells = [("base", {}, None)]
            cells += [(noise, {"gamma": g}, s) for g in gammas for s in range(seeds)]
            cells += [(tuning, {"learning_rate": r, "data": data}, s) for r in rates for s in range(seeds)]
            for variant, fields, seed in cells:
                key = f"{family}{budget}{variant}{fields}{seed}"
                cell_id = hashlib.sha256(key.encode()).hexdigest()
                about = {
                    "study": name, "cell_id": cell_id, "weights_id": cell_id[::-1], "status": "done",
                    "checkpoint": f"{family}/tokens-{budget}", "family": family, "run": family, "tokens": budget,
                    "checkpoint_learning_rate": 1e-3 / (place + 1), "variant": variant,
                    "modification": {"base": "base", noise: "gaussian"}.get(variant, "finetune"), "seed": seed,
                }  # fmt: skip
                strength = {**fields, "base": 0}.get("gamma", 0.1 if fields else 0.0) / 0.1
                jitter = 0.0 if seed is None else rng.normal(0, 0.01)
                loss = 4 - 0.3 * place + strength**0.5 * ADDED[shape][place] * bool(fields) + jitter + shift

                def add(task, metric, values, weight, higher):
                    value = float((values * weight).sum() / weight.sum())
                    rows.append(about | {"task": task, "metric": metric, "value": value, "stderr": 0.01}
                                | {"n_documents": documents, "higher_is_better": higher} | fields)  # fmt: skip
                    frame = {"cell_id": cell_id, "task": task, "metric": metric, "document": np.arange(documents)}
                    scores.append(pd.DataFrame({**frame, "value": values, "weight": weight}))

                add("text", "nll_per_token", loss + text + rng.normal(0, 0.02, documents), np.full(documents, 50.0), False)
                for task in tasks:
                    bits = 0.2 + 0.2 * loss + own[task] + rng.normal(0, 0.02, documents)
                    add(task, "bits_per_byte", bits, np.ones(documents), False)
                    add(task, "primary", (bits < 0.8).astype(float), np.ones(documents), True)
                if "learning_rate" in fields:
                    step = rates.index(fields["learning_rate"])
                    inside = 1.5 - 0.02 * place + 0.1 * (step - 1) ** 2 + rng.normal(0, 0.002)
                    distance = 1e3 * fields["learning_rate"] * (1 + 0.01 * rng.normal())
                    for metric, value in (("validation_loss", inside), ("distance", distance)):
                        rows.append(about | {"task": "training", "metric": metric, "value": value, "stderr": None}
                                    | {"n_documents": None, "higher_is_better": False} | fields)  # fmt: skip
    frame = pd.DataFrame(rows)
    for column in ("gamma", "learning_rate", "data"):
        if column not in frame:
            frame[column] = None
    frame = frame.astype({"seed": "Int64", "n_documents": "Int64", "stderr": float, "gamma": float, "learning_rate": float})
    return frame, pd.concat(scores, ignore_index=True).astype({c: "category" for c in ("cell_id", "task", "metric")})


def lose(frame: pd.DataFrame, documents: pd.DataFrame, mask, status: str):
    """Return the frames with the cells that ``mask`` names without a result."""
    cells = set(frame.loc[mask, "cell_id"])
    gone = frame["cell_id"].isin(cells)
    frame = frame.assign(status=frame["status"].mask(gone, status))
    frame.loc[gone, ["value", "stderr"]] = np.nan
    return frame, documents[~documents["cell_id"].isin(cells)]


@pytest.fixture(scope="session")
def make_study():
    return study_frames


@pytest.fixture(scope="session")
def lose_cells():
    return lose


PRIMARY = {"task": "text", "metric": "nll_per_token", "variant": "tuning", "compare": [4_000_000, 16_000_000]}


@pytest.fixture(scope="session")
def primary():
    return dict(PRIMARY)


@pytest.fixture(scope="session")
def make_run():
    """Return a function that writes frames as a run folder, in the store's own format."""

    def make(root, frame, documents, *, repo=None, study=None):
        from overtrain.work import _parquet
        from model_wrappers.identity import digest
        from overtrain.store import Store

        store = Store(root)
        entries = []
        by_cell = dict(tuple(documents.groupby("cell_id", observed=True))) if len(documents) else {}
        labels = ["checkpoint", "family", "run", "tokens", "checkpoint_learning_rate", "variant", "modification", "weights_id"]
        for old_id, rows in frame.groupby("cell_id", sort=False):
            first = rows.iloc[0]
            identity = {"cell": str(old_id)}
            cell_id = digest(identity)
            own = {c: first[c] for c in ("gamma", "learning_rate", "data") if pd.notna(first[c])}
            entry = {c: first[c].item() if hasattr(first[c], "item") else first[c] for c in labels}
            entry |= {"key": str(old_id), "cell_id": cell_id, "problem": None, "label": "x", "fields": own}
            entry["seed"] = None if pd.isna(first["seed"]) else int(first["seed"])
            entries.append(entry)
            if first["status"] == "missing":
                continue
            files = {"spec.json": json.dumps({"identity": identity}).encode()}
            if first["status"] == "done":
                files |= _files(rows, by_cell.get(old_id), entry, repo, _parquet)
            store.prepare()
            store.write(cell_id, files, first["status"], started=0.0, error="Traceback: it broke" * (first["status"] == "failed"))
        about = {"name": str(frame["study"].iloc[0]), "select": {"task": "training", "metric": "validation_loss"}} | (study or {})
        content = {"format": 1, "study": about, "cells": entries, "same": []}
        (root / "study.json").write_text(json.dumps(content))
        return root

    def _files(rows, scores, entry, repo, parquet):
        keys = ["task", "metric", "value", "stderr", "n_documents", "higher_is_better"]
        metrics = [{k: None if pd.isna(r[k]) else r[k] for k in keys} for r in rows[keys].to_dict("records")]
        columns = ("task", "metric", "document", "value", "weight")
        content = {c: [] if scores is None else scores[c].tolist() for c in columns}
        about = {"checkpoint": {"repo": repo or f"/disk/{entry['checkpoint']}", "revision": "main" if repo is None else "step-1"}}
        about |= {"modifications": [], "dtype": "float32"}
        results = {
            "results": {}, "versions": {"text": 1.0}, "n-shot": {"text": 0}, "date": 1795227135.5, "lm_eval_version": "0.4.13",
            "transformers_version": "5.0", "configs": {"alpha": {"dataset_path": "org/alpha", "test_split": "test"}},
            "config": {"model": "overtrain", "overtrain": about, "limit": None}, "pretty_env_info": "secret host",
        }  # fmt: skip
        return {
            "results.json": json.dumps(results).encode(),
            "metrics.json": json.dumps(metrics, default=float).encode(),
            "documents.parquet": parquet(content),
            "training_log.json": b"[]",
            "environment.json": json.dumps({"lm_eval_version": "0.4.13", "transformers_version": "5.0"}).encode(),
        }

    return make
