"""The store: whole or not there, whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole
from model_wrappers.identity import digest
from overtrain.results.store import FILES, Store

IDENTITY = {"weights": "w", "tasks": {"t": "r"}, "dtype": "float32", "lm_eval": "0"}
CELL = digest(IDENTITY)


def files(identity=IDENTITY, **more):
    content = dict.fromkeys(FILES, b"{}") | {"spec.json": json.dumps({"identity": identity}).encode()}
    return content | {name.replace("_json", ".json"): value for name, value in more.items()}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "study")
    store.prepare()
    return store


def test_a_cell_that_was_written_is_there_with_what_was_written(store):
    assert store.state(CELL).status == "missing"
    store.write(CELL, files(results_json=b"[1]"), "done", started=time.time() - 2)
    state = store.state(CELL)
    assert (state.status, state.reason) == ("done", "")
    assert state.seconds == pytest.approx(2, abs=0.5)
    assert store.read(CELL, "results.json") == b"[1]"
    about = json.loads((store.folder(CELL) / "status.json").read_text())
    assert about["files"]["results.json"] == {"bytes": 3, "sha256": hashlib.sha256(b"[1]").hexdigest()}


def test_a_failed_cell_keeps_its_traceback_and_is_replaced_by_a_finished_one(store):
    store.write(CELL, {"spec.json": files()["spec.json"]}, "failed", started=0, error="Traceback\nValueError: x")
    assert store.state(CELL).status == "failed"
    assert store.state(CELL).reason.endswith("ValueError: x")
    store.write(CELL, files(), "done", started=0)
    assert store.state(CELL).status == "done"
    assert [p.name for p in store.root.iterdir() if p.name != ".work"] == [CELL]


@pytest.mark.faults("finished cell damaged")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "results.json").unlink(), "results.json is missing or has another size"),
        (lambda f: (f / "metrics.json").write_bytes(b"{"), "metrics.json is missing or has another size"),
        (lambda f: (f / "status.json").write_bytes(b"{"), "damaged"),
        (lambda f: (f / "status.json").unlink(), "no status.json"),
        (lambda f: f.rename(f.with_name("0" * 64)), None),
    ],
)
def test_a_damaged_cell_does_not_count(store, damage, reason):
    store.write(CELL, files(), "done", started=0)
    damage(store.folder(CELL))
    if reason is None:
        assert store.state("0" * 64).status == "missing"
        assert "another cell" in store.state("0" * 64).reason
    else:
        assert reason in store.state(CELL).reason
    assert store.state(CELL).status == "missing"


@pytest.mark.faults("finished cell damaged")
def test_a_result_of_other_weights_is_refused(store):
    store.write(CELL, files(identity=IDENTITY | {"weights": "others"}), "done", started=0)
    state = store.state(CELL)
    assert state.status == "missing"
    assert "another checkpoint, modification, task or version" in state.reason


@pytest.mark.faults("finished cell damaged")
def test_a_file_changed_behind_our_back_is_not_read(store):
    store.write(CELL, files(metrics_json=b"[1.0]"), "done", started=0)
    (store.folder(CELL) / "metrics.json").write_bytes(b"[2.0]")
    assert store.state(CELL).status == "done"  # the size is the same: contents are checked when they are read
    with pytest.raises(StoreError, match="not what was written"):
        store.read(CELL, "metrics.json")


@pytest.mark.faults("kill -9 while a cell is held")
def test_a_claim_keeps_others_out_and_ends_with_its_holder(store, tmp_path):
    assert not store.claimed(CELL)
    hold = (
        "import sys, time, pathlib; from overtrain.results.store import Store\n"
        f"with Store(pathlib.Path({str(store.root)!r})).claim({CELL!r}) as ours:\n"
        "    print(ours, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with store.claim(CELL) as ours:
        assert not ours
    assert store.claimed(CELL)
    left = store.root / f".{CELL}.half"
    left.mkdir()
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert not store.claimed(CELL)
    with store.claim(CELL) as ours:
        assert ours
        assert not left.exists()  # what a killed holder left


WRITER = """
import json, os, pathlib, sys
from model_wrappers.identity import digest
from overtrain.results.store import FILES, Store
store = Store(pathlib.Path(sys.argv[1]))
print("ready", flush=True)
for number in range(10_000):
    identity = {"weights": f"{sys.argv[2]}-{number}", "tasks": {"t": "r"}, "dtype": "float32", "lm_eval": "0"}
    files = dict.fromkeys(FILES, os.urandom(20_000)) | {"spec.json": json.dumps({"identity": identity}).encode()}
    store.write(digest(identity), files, "done", started=0)
"""


@pytest.mark.faults("kill -9 while cells are written")
def test_kill_9_at_any_moment_leaves_only_whole_cells(store):
    """A process that writes cells as fast as it can, killed at three moments; nothing that counts is incomplete."""
    for seed, after in enumerate((0.05, 0.11, 0.23)):
        command = [sys.executable, "-c", WRITER, str(store.root), str(seed)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        process.kill()
        process.communicate()
    cells = [p.name for p in store.root.iterdir() if len(p.name) == 64]
    assert cells
    for cell in cells:
        assert store.state(cell).status == "done"
        for name in FILES:
            store.read(cell, name)


@pytest.mark.faults("disk full: a write that fails")
def test_a_full_disk_is_one_error_and_nothing_done_is_lost(store):
    """A limit on file sizes makes the system refuse the write half-way, as a full disk does."""
    store.write(CELL, files(), "done", started=0)
    other = digest(IDENTITY | {"weights": "x"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
        with pytest.raises(StoreError, match=r"cannot write under .*what is finished is kept"):
            store.write(other, files(results_json=b"x" * 10_000), "done", started=0)
        with pytest.raises(StoreError, match="cannot write under"):
            write_whole(store.root / "study.json", b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert store.state(CELL).status == "done"
    assert [p.name for p in store.root.iterdir() if p.name != ".work"] == [CELL]


@pytest.mark.faults("cache or results cannot be written")
def test_a_folder_that_is_no_folder_is_a_clear_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="give another folder with --runs"):
        Store(tmp_path / "runs" / "study").prepare()


@pytest.mark.faults("two writers at once")
def test_two_threads_of_one_process_do_not_hold_the_same_cell(store):
    seen = []

    def hold():
        with store.claim(CELL) as ours:
            seen.append(ours)
            time.sleep(0.2)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [False, True]
