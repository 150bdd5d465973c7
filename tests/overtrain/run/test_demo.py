"""``overtrain demo`` as a user runs it: the embedded study, killed, run again, reported, and repeated by stock lm_eval."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pandas as pd
import pytest
from commands import BIN, INCLUDE, model_args, results, run

from overtrain.results.frame import load_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A quick demo, killed with -9 as soon as there is a checkpoint, then run to its end."""
    runs = tmp_path_factory.mktemp("runs")
    env = {"HF_HUB_OFFLINE": "1", "OVERTRAIN_CACHE": str(runs / "cache")}
    command = [BIN / "overtrain", "demo", "--quick", "--runs", runs]
    with subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        deadline = time.time() + 120
        while not list(runs.rglob("model.safetensors")) and first.poll() is None and time.time() < deadline:
            time.sleep(0.05)
        first.kill()
    done = run(*command, **env)
    assert done.returncode == 0, done.stderr[-3000:]
    return runs, done


def test_every_cell_has_a_result_and_the_page_is_there(demo):
    runs, done = demo
    assert f"page: {runs / 'quick' / 'report' / 'index.html'}" in done.stdout
    page = (runs / "quick" / "report" / "index.html").read_text()
    assert "one pre-training run" in page.lower()
    frame = load_runs(runs / "quick")
    assert set(frame["status"]) == {"done"}
    assert frame["cell_id"].nunique() == 2 * (1 + 2 + 2)
    assert (runs / "quick" / "report" / "tables" / "cells.csv").is_file()


def test_a_finished_demo_only_reports_again(demo):
    runs, _ = demo
    before = {p: p.stat().st_mtime_ns for p in (runs / "quick").glob("*/results.json")}
    again = run("overtrain", "demo", "--quick", "--runs", runs)
    assert again.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in (runs / "quick").glob("*/results.json")} == before


def test_status_and_the_exported_files_agree_with_the_frame(demo, tmp_path):
    runs, _ = demo
    assert "10" in run("overtrain", "status", "micro/quick", "--runs", runs).stdout
    done = run("overtrain", "export", runs / "quick", "--out", tmp_path / "lb", "--form", "lm_eval")
    assert done.returncode == 0, done.stderr[-2000:]
    exported = [json.loads(p.read_text()) for p in (tmp_path / "lb").rglob("results_*.json")]
    frame = load_runs(runs / "quick")
    mine = frame[(frame["task"] == "overtrain_text") & (frame["metric"] == "nll_per_token")]["value"]
    theirs = [e["results"]["overtrain_text"]["nll_per_token,none"] for e in exported]
    pd.testing.assert_series_equal(
        mine.sort_values(ignore_index=True), pd.Series(sorted(theirs)), check_names=False, rtol=1e-9
    )


def test_stock_lm_eval_repeats_a_cell(demo, tmp_path):
    """The same checkpoint, modification and text through lm_eval's own command line give the cell's very number."""
    runs, _ = demo
    frame = load_runs(runs / "quick")
    row = frame[(frame["metric"] == "nll_per_token") & (frame["variant"] == "noise")].iloc[0]
    cell = json.loads((runs / "quick" / row["cell_id"] / "results.json").read_text())
    (text,) = runs.rglob("held_out.jsonl")
    again = run(
        "lm_eval", "--model", "overtrain_perturb", "--model_args",
        model_args(
            pretrained=cell["config"]["model_args"]["pretrained"], gamma=row["gamma"], seed=row["seed"], dtype="float32"
        ),
        "--tasks", "overtrain_text", "--include_path", INCLUDE, "--batch_size", "64", "--device", "cpu",
        "--output_path", tmp_path, OVERTRAIN_TEXT=str(text), cwd=runs.parent,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-3000:]
    found = results(tmp_path)
    assert found["config"]["overtrain"]["cell_id"] == row["cell_id"]
    assert found["results"]["overtrain_text"]["nll_per_token,none"] == row["value"]
