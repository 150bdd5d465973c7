"""What every executor promises: each job's outcome exactly once, and results that survive whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from scripted_jobs import executor_of, make_jobs, runner_of, store_result

from model_wrappers.errors import StoreError
from overtrain.results.store import Store

TESTS = Path(__file__).parents[3]

EXECUTORS = [
    "here",
    pytest.param("workers", marks=pytest.mark.slow),  # every worker imports torch
    pytest.param("ray", marks=pytest.mark.cluster),
]


@pytest.fixture(params=EXECUTORS)
def kind(request, monkeypatch):
    if request.param == "ray":
        pytest.importorskip("ray")
        monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return request.param


def statuses(kind, jobs, retry=None):
    """Run the jobs; return number of the job -> its status, and see that each job has one outcome."""
    outcomes = list(executor_of(kind, runner_of(jobs, retry)).run(jobs))
    assert Counter(o.job.cell_id for o in outcomes) == Counter(job.cell_id for job in jobs)
    return {outcome.job.point.tokens: outcome.status for outcome in outcomes}


def states(jobs):
    return [Store(job.root).state(job.cell_id).status for job in jobs]


def measured(root):
    """Return how often each cell was measured, in descending order."""
    return sorted(Counter((root / "measured").read_text().split()).values(), reverse=True)


def test_each_job_has_one_outcome_and_a_failure_stops_no_other(kind, tmp_path):
    jobs = make_jobs(tmp_path, "works", "fails", "works", "works", "fails", "works", "works")
    with Store(tmp_path).claim(jobs[3].cell_id):
        store_result(jobs[3])
    expected = {0: "done", 1: "failed", 2: "done", 3: "skipped", 4: "failed", 5: "done", 6: "done"}
    assert statuses(kind, jobs) == expected
    assert states(jobs) == ["done", "failed", "done", "done", "failed", "done", "done"]
    assert measured(tmp_path) == [1] * 6
    assert "boom" in Store(tmp_path).state(jobs[1].cell_id).reason


def test_divergence_is_a_result_and_not_repeated(kind, tmp_path):
    jobs = make_jobs(tmp_path, "diverges", "works")
    assert statuses(kind, jobs) == {0: "diverged", 1: "done"}
    assert Store(tmp_path).state(jobs[0].cell_id).reason == "training diverged at step 3"
    assert statuses(kind, jobs) == {0: "skipped", 1: "skipped"}
    assert measured(tmp_path) == [1, 1]


def test_a_failure_is_repeated_once_where_that_is_asked_for(kind, tmp_path):
    jobs = make_jobs(tmp_path, "fails", "works", "fails")
    statuses("here", jobs)
    retry = {jobs[0].cell_id: Store(tmp_path).state(jobs[0].cell_id).finished}
    assert statuses(kind, jobs, retry) == {0: "failed", 1: "skipped", 2: "skipped"}
    assert measured(tmp_path) == [2, 1, 1]


def test_cells_held_elsewhere_are_waited_for(kind, tmp_path):
    """One holder stores a result; another one gives up, and the executor runs that cell itself."""
    jobs = make_jobs(tmp_path, "works", "works", "works")
    held = threading.Barrier(3)

    def hold(job, finish):
        with Store(tmp_path).claim(job.cell_id) as ours:
            assert ours
            held.wait()
            time.sleep(1.0)
            if finish:
                store_result(job)

    holders = [threading.Thread(target=hold, args=(job, finish)) for job, finish in ((jobs[0], True), (jobs[1], False))]
    for holder in holders:
        holder.start()
    held.wait()
    assert statuses(kind, jobs) == {0: "skipped", 1: "done", 2: "done"}
    for holder in holders:
        holder.join()


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(kind, tmp_path):
    jobs = make_jobs(tmp_path, "works", "full")
    with pytest.raises(StoreError, match="the disk is full"):
        for outcome in executor_of(kind, runner_of(jobs)).run(jobs):
            assert outcome.status == "done"
    assert states(jobs)[1] == "missing"
    assert not Store(tmp_path).claimed(jobs[1].cell_id)


def test_no_jobs_have_no_outcomes(kind):
    assert list(executor_of(kind, runner_of([])).run([])) == []


def test_a_closed_run_stops_its_work(kind, tmp_path):
    (tmp_path / "wait").touch()
    jobs = make_jobs(tmp_path, "works", *["waits"] * 4)
    outcomes = executor_of(kind, runner_of(jobs)).run(jobs)
    assert next(outcomes).status == "done"
    outcomes.close()
    assert states(jobs)[0] == "done"
    deadline = time.monotonic() + 20  # a cancelled Ray task takes a moment
    while any(Store(tmp_path).claimed(job.cell_id) for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Store(tmp_path).claimed(job.cell_id) for job in jobs)
    (tmp_path / "wait").unlink()
    assert set(statuses(kind, jobs).values()) == {"skipped", "done"}


def test_ctrl_c_stops_at_once_and_the_same_command_goes_on(kind, tmp_path):
    (tmp_path / "wait").touch()
    command = [sys.executable, "-m", "scripted_jobs", kind, str(tmp_path), "3"]
    environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("began-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    jobs = make_jobs(tmp_path, *["waits"] * 3)
    assert set(states(jobs)) <= {"cancelled", "missing"}
    assert kind != "here" or "cancelled" in states(jobs)  # workers, and sometimes Ray tasks, are ended without a word
    assert not any(Store(tmp_path).claimed(job.cell_id) for job in jobs)
    (tmp_path / "wait").unlink()
    assert statuses(kind, jobs) == {0: "done", 1: "done", 2: "done"}
