"""Sweeps as processes of their own: killed, side by side, with workers, under torchrun."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import pandas as pd
import pytest
from overtrain_tiny import CELLS, tables, write_study

from overtrain.results.frame import load_runs
from overtrain.run.sweep import run

SWEEP = """
import sys
from overtrain.run.sweep import run
if __name__ == "__main__":
    workers = int(sys.argv[3])
    summary = run(sys.argv[1], sys.argv[2], workers=workers)
    print(summary.ran, summary.done, summary.cells, summary.failed)
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def study(make_model, tmp_path):
    return write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1))


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(SWEEP)
    return path


def start(script, study, runs, cache, workers=1):
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OVERTRAIN_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, script, str(study), str(runs), str(workers)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finished_cells(root):
    return sum(1 for p in root.glob("*") if len(p.name) == 64) if root.is_dir() else 0


def test_killed_three_times_and_finished_the_tables_are_those_of_an_undisturbed_run(study, script, tmp_path):
    """With -9, whenever a random number of further cells is there; twice in the middle of a write is likely, too."""
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    quiet = start(script, study, undisturbed, tmp_path / "cache-a")
    assert quiet.communicate(timeout=200)[0].split()[:3] == [str(CELLS)] * 3
    chance = random.Random(0)
    for kill in range(3):
        process = start(script, study, disturbed, tmp_path / "cache-b")
        enough = finished_cells(disturbed / "tiny") + chance.randrange(1, 4)
        deadline = time.time() + 120
        while finished_cells(disturbed / "tiny") < enough and process.poll() is None and time.time() < deadline:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -9, f"kill {kill} came too late"
    rest = start(script, study, disturbed, tmp_path / "cache-b")
    ran, done, cells, failed = rest.communicate(timeout=200)[0].split()
    assert (done, cells, failed) == (str(CELLS), str(CELLS), "[]")
    assert 0 < int(ran) < CELLS - 3  # a rerun repeats only what is missing
    for one, other in zip(tables(undisturbed / "tiny"), tables(disturbed / "tiny"), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert not [p for p in (tmp_path / "cache-b" / "weights").iterdir() if not p.name.startswith(".")]


def test_two_processes_on_one_folder_do_each_cell_once(study, script, tmp_path):
    both = [start(script, study, tmp_path / "runs", tmp_path / "cache") for _ in "ab"]
    answers = [p.communicate(timeout=300) for p in both]
    assert [p.returncode for p in both] == [0, 0], answers
    ran, done, *_ = zip(*(out.split() for out, _ in answers), strict=True)
    assert sum(map(int, ran)) == CELLS
    assert all(0 < int(n) < CELLS for n in ran)
    assert set(done) == {str(CELLS)}
    pids = {json.loads(f.read_text())["pid"] for f in (tmp_path / "runs" / "tiny").glob("*/status.json")}
    assert pids == {p.pid for p in both}


def test_workers_and_one_process_agree(study, script, tmp_path):
    run(study, tmp_path / "one")
    process = start(script, study, tmp_path / "two", tmp_path / "cache", workers=2)
    out, err = process.communicate(timeout=200)
    assert out.split()[:2] == [str(CELLS)] * 2, err
    assert err.count("] done  ") == CELLS
    one, two = tables(tmp_path / "one" / "tiny"), tables(tmp_path / "two" / "tiny")
    pd.testing.assert_frame_equal(one[0], two[0], rtol=1e-5)


def test_a_ladder_is_pre_trained_first_and_a_study_of_it_survives_kills(tmp_path, script):
    """micro/quick, killed with -9 while it pre-trains and while it evaluates; then the same tables as undisturbed."""
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    quiet = start(script, "micro/quick", undisturbed, tmp_path / "cache-a", workers=2)
    out, err = quiet.communicate(timeout=300)
    assert quiet.returncode == 0, err
    cells = int(out.split()[2])
    for wait in (
        lambda: (disturbed / "ladders").is_dir() and any(disturbed.glob("ladders/*/text/text.json")),
        lambda: finished_cells(disturbed / "quick") >= 1,
        lambda: finished_cells(disturbed / "quick") >= 5,
    ):
        process = start(script, "micro/quick", disturbed, tmp_path / "cache-b", workers=2)
        while not wait() and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    out, err = start(script, "micro/quick", disturbed, tmp_path / "cache-b", workers=2).communicate(timeout=300)
    assert out.split()[1] == str(cells), err
    for one, other in zip(tables(undisturbed / "quick"), tables(disturbed / "quick"), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    frame = load_runs(disturbed / "quick")
    assert set(frame["run"]) == {"seed-0"}
    assert set(frame["tokens"]) == {20480, 40960}
    assert set(frame["checkpoint_learning_rate"]) == {0.0}


def test_a_cell_of_several_processes_is_the_same_cell(study, tmp_path):
    """Under torchrun with two gloo processes: same identity, same log-likelihoods to rounding."""
    run(study, tmp_path / "one", only=["base", "sft"])
    text = study.read_text()
    study.write_text(text + "resources: {processes: 2}\n")
    summary = run(study, tmp_path / "two", only=["base", "sft"])
    log = [text for text in (f.read_text() for f in (tmp_path / "two").glob("tiny/*/log.txt")) if "exitcode" in text]
    assert (summary.done, summary.failed) == (6, []), log
    (one, one_documents), (two, two_documents) = (tables(tmp_path / name / "tiny") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one[one["task"] != "training"], two[two["task"] != "training"], rtol=1e-4)
    pd.testing.assert_frame_equal(one_documents, two_documents, rtol=1e-4)


def test_what_torchrun_says_of_an_error_is_in_the_log(study, tmp_path):
    """Three rows per step cannot be divided among two processes."""
    edited = study.read_text().replace("train_batch_size: 4", "train_batch_size: 3")
    study.write_text(edited + "resources: {processes: 2}\n")
    summary = run(study, tmp_path / "runs", only=["olmo-00 sft*seed=0"])
    (failed,) = summary.failed
    assert "torchrun ended with" in failed
    (log,) = (tmp_path / "runs" / "tiny").glob("*/log.txt")
    assert "train_batch_size=3" in log.read_text()


@pytest.mark.parametrize("change", ["edited", "deleted"])
def test_the_study_may_change_while_cells_of_several_processes_run(study, tmp_path, monkeypatch, change):
    """The processes run the cell that was planned, although the file asks for other cells by then, or is gone."""
    from overtrain.run import job_file

    expected = run(study, tmp_path / "one", only=["olmo-00 base"])
    study.write_text(study.read_text() + "resources: {processes: 2}\n")
    written = job_file.pickle.dump

    def change_the_study_then_dump(job, opened):
        if change == "edited":
            study.write_text("name: other\ntasks: [piqa]\n")
        else:
            study.unlink()
        written(job, opened)

    monkeypatch.setattr(job_file.pickle, "dump", change_the_study_then_dump)
    summary = run(study, tmp_path / "two", only=["olmo-00 base"])
    assert (summary.done, summary.failed) == (expected.done, [])
    assert not study.exists() or "other" in study.read_text()
    (one, _), (two, _) = (tables(tmp_path / name / "tiny") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, rtol=1e-4)
    assert not list((tmp_path / "two" / "tiny" / ".work").glob("*.job"))
