"""Synthetic studies with a known answer, as frames and as a run folder. No model is run."""

from __future__ import annotations

import hashlib
import itertools
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
    modified = [("base", {}, None)]
    modified += [(noise, {"gamma": g}, s) for g in gammas for s in range(seeds)]
    modified += [(tuning, {"learning_rate": r, "data": data}, s) for r in rates for s in range(seeds)]
    places = [(family, place) for family in families for place in range(len(budgets))]
    for (family, place), (variant, fields, seed) in itertools.product(places, modified):
        about = _about(name, family, place, budgets[place], variant, fields, seed)
        about["modification"] = {"base": "base", noise: "gaussian"}.get(variant, "finetune")
        strength = fields.get("gamma", 0.1) / 0.1
        jitter = 0.0 if seed is None else rng.normal(0, 0.01)
        loss = 4 - 0.3 * place + strength**0.5 * ADDED[shape][place] * bool(fields) + jitter + shift
        measured = [("text", "nll_per_token", loss + text + rng.normal(0, 0.02, documents), 50.0)]
        for task in tasks:
            bits = 0.2 + 0.2 * loss + own[task] + rng.normal(0, 0.02, documents)
            measured += [(task, "bits_per_byte", bits, 1.0), (task, "primary", (bits < 0.8).astype(float), 1.0)]
        for task, metric, values, weight in measured:
            row = {"task": task, "metric": metric, "value": float(values.mean()), "stderr": 0.01}
            rows.append(about | row | {"n_documents": documents, "higher_is_better": metric == "primary"})
            part = {"cell_id": about["cell_id"], "task": task, "metric": metric, "document": np.arange(documents)}
            scores.append(pd.DataFrame({**part, "value": values, "weight": weight}))
        if "learning_rate" in fields:
            step = rates.index(fields["learning_rate"])
            inside = 1.5 - 0.02 * place + 0.1 * (step - 1) ** 2 + rng.normal(0, 0.002)
            distance = 1e3 * fields["learning_rate"] * (1 + 0.01 * rng.normal())
            for metric, value in (("validation_loss", inside), ("distance", distance)):
                rows.append(about | {"task": "training", "metric": metric, "value": value, "higher_is_better": False})
    frame = pd.DataFrame(rows)
    for column in ("gamma", "learning_rate", "data"):
        if column not in frame:
            frame[column] = None
    numbers = dict.fromkeys(("stderr", "gamma", "learning_rate"), float)
    frame = frame.astype({"seed": "Int64", "n_documents": "Int64", **numbers})
    labels = dict.fromkeys(("cell_id", "task", "metric"), "category")
    return frame, pd.concat(scores, ignore_index=True).astype(labels)


def _about(name, family, place, budget, variant, fields, seed):
    cell_id = hashlib.sha256(f"{family}{budget}{variant}{fields}{seed}".encode()).hexdigest()
    about = {"study": name, "cell_id": cell_id, "weights_id": cell_id[::-1], "status": "done"}
    about |= {"checkpoint": f"{family}/tokens-{budget}", "family": family, "run": family, "tokens": budget}
    return about | {"checkpoint_learning_rate": 1e-3 / (place + 1), "variant": variant, "seed": seed} | fields


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
def make_record():
    """Return a function that makes a study's record from what its file says."""
    return study_record


def study_record(**about):
    from overtrain.common.typed_json import from_json
    from overtrain.results.record import StudyRecord

    return from_json(StudyRecord, {"name": "synthetic", **about})


@pytest.fixture(scope="session")
def make_run():
    """Return a function that writes frames as a run folder, in the store's own format."""
    return write_run


_LABELS = ("checkpoint", "family", "run", "tokens", "checkpoint_learning_rate", "variant", "modification", "weights_id")


def write_run(root, frame, documents, *, repo=None, study=None):
    from model_wrappers.identity import digest
    from overtrain.results.store import Store

    store = Store(root)
    store.prepare()
    entries = []
    by_cell = dict(tuple(documents.groupby("cell_id", observed=True))) if len(documents) else {}
    for old_id, rows in frame.groupby("cell_id", sort=False):
        first = rows.iloc[0]
        identity = {"cell": str(old_id)}
        cell_id = digest(identity)
        entry = {c: first[c].item() if hasattr(first[c], "item") else first[c] for c in _LABELS}
        entry["fields"] = {c: first[c] for c in ("gamma", "learning_rate", "data") if pd.notna(first[c])}
        entry |= {"key": str(old_id), "cell_id": cell_id, "problem": None, "label": "x"}
        entry["seed"] = None if pd.isna(first["seed"]) else int(first["seed"])
        entries.append(entry)
        if first["status"] == "missing":
            continue
        files = {"spec.json": json.dumps({"identity": identity}).encode()}
        if first["status"] == "done":
            files |= _files(rows, by_cell.get(old_id), entry, repo)
        error = "Traceback: it broke" if first["status"] == "failed" else ""
        store.write(cell_id, files, first["status"], started=0.0, error=error)
    about = {"name": str(frame["study"].iloc[0]), "select": {"task": "training", "metric": "validation_loss"}}
    content = {"format": 1, "study": about | (study or {}), "cells": entries, "same": []}
    (root / "study.json").write_text(json.dumps(content))
    return root


def _files(rows, scores, entry, repo):
    keys = ["task", "metric", "value", "stderr", "n_documents", "higher_is_better"]
    metrics = [{k: None if pd.isna(r[k]) else r[k] for k in keys} for r in rows[keys].to_dict("records")]
    checkpoint = {"repo": repo or f"/disk/{entry['checkpoint']}", "revision": "main" if repo is None else "step-1"}
    results = {
        "results": {},
        "versions": {"text": 1.0},
        "n-shot": {"text": 0},
        "date": 1795227135.5,
        "lm_eval_version": "0.4.13",
        "transformers_version": "5.0",
        "configs": {"alpha": {"dataset_path": "org/alpha", "test_split": "test"}},
        "config": {"model": "overtrain", "limit": None},
        "pretty_env_info": "secret host",
    }
    results["config"]["overtrain"] = {"checkpoint": checkpoint, "modifications": [], "dtype": "float32"}
    if "data" in entry["fields"]:
        source = f"/disk/private/{entry['fields']['data']}.jsonl"
        about = {
            "modification": entry["modification"],
            **entry["fields"],
            "data": source,
            "training_data": {"source": source},
        }
        results["config"]["overtrain"]["modifications"] = [about]
    return {
        "results.json": json.dumps(results).encode(),
        "metrics.json": json.dumps(metrics, default=float).encode(),
        "documents.parquet": _parquet(scores),
        "training_log.json": b"[]",
        "environment.json": json.dumps({"lm_eval_version": "0.4.13", "transformers_version": "5.0"}).encode(),
    }


def _parquet(scores):
    import io

    memory = io.BytesIO()
    columns = ["task", "metric", "document", "value", "weight"]
    scores[columns].reset_index(drop=True).to_parquet(memory, index=False)
    return memory.getvalue()
