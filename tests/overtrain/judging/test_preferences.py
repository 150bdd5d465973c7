"""PreferenceStore survive kills, full disks and company."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from model_wrappers.errors import StoreError
from overtrain.judging.preferences import Preference, PreferenceStore, preference_key

WRITER = """
import sys
from pathlib import Path
from overtrain.judging.preferences import Preference, PreferenceStore, preference_key
start, stop = int(sys.argv[2]), int(sys.argv[3])
with PreferenceStore(Path(sys.argv[1])) as preferences:
    for n in range(start, stop):
        preferences.put(preference_key(n), Preference(n / 1000, n % 2 == 0))
        if n % 20 == 0:
            preferences.flush()
"""

HANGER = """
import sys, time
from pathlib import Path
from overtrain.judging.preferences import Preference, PreferenceStore, preference_key
preferences = PreferenceStore(Path(sys.argv[1]))
preferences.put(preference_key("kept"), Preference(0.25))
print("put", flush=True)
time.sleep(60)
"""


def test_what_was_put_is_there_at_once_and_afterwards(tmp_path):
    path = tmp_path / "judge" / "verdicts.sqlite"
    with PreferenceStore(path) as preferences:
        assert preferences.get(preference_key("a")) is None
        preferences.put(preference_key("a"), Preference(0.1 + 0.2, one_token=True))
        assert preferences.get(preference_key("a")) == Preference(0.1 + 0.2, one_token=True)
    with PreferenceStore(path) as preferences:
        assert preferences.get(preference_key("a")) == Preference(0.1 + 0.2, one_token=True)
        preferences.put(preference_key("a"), Preference(0.9))  # the first one stays
    with PreferenceStore(path) as preferences:
        assert preferences.get(preference_key("a")).first == 0.1 + 0.2


def test_a_killed_process_loses_half_a_second_at_most(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    process = subprocess.Popen([sys.executable, "-c", HANGER, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "put\n"
    time.sleep(1.2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with PreferenceStore(path) as preferences:
        assert preferences.get(preference_key("kept")) == Preference(0.25)


def test_several_processes_write_one_file(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    ranges = [(0, 400), (200, 600), (0, 600)]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(a), str(b)]) for a, b in ranges]
    assert [w.wait(60) for w in writers] == [0, 0, 0]
    with PreferenceStore(path) as preferences:
        assert all(preferences.get(preference_key(n)) == Preference(n / 1000, n % 2 == 0) for n in range(600))
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (600,)
    database.close()


def test_threads_may_share_one(tmp_path):
    with PreferenceStore(tmp_path / "v.sqlite") as preferences:
        threads = [
            threading.Thread(
                target=lambda t=t: [preferences.put(preference_key([t, n]), Preference(0.5)) for n in range(200)]
            )
            for t in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(preferences.get(preference_key([t, n])) for t in range(4) for n in range(200))


def test_a_file_that_is_something_else(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    path.write_text("not a database, " * 100)
    with pytest.raises(StoreError, match=r"verdicts.sqlite cannot be read or written .*delete it"):
        PreferenceStore(path)


def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    with PreferenceStore(path) as preferences:
        preferences.put(preference_key("early"), Preference(0.5))
    preferences = PreferenceStore(path)
    preferences._database.execute("PRAGMA max_page_count = 2")  # SQLite's own way to be full
    for n in range(1000):
        preferences.put(preference_key(n), Preference(0.5))
    with pytest.raises(StoreError, match="full"):
        preferences.close()
    with PreferenceStore(path) as preferences:
        assert preferences.get(preference_key("early")) == Preference(0.5)
        assert preferences.get(preference_key(5)) is None


def test_a_full_disk_stops_the_work_while_it_runs(tmp_path):
    preferences = PreferenceStore(tmp_path / "verdicts.sqlite")
    preferences._database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(StoreError, match="full"):
        for n in range(1_000_000):
            preferences.put(preference_key(n), Preference(0.5))
            time.sleep(0.0005)
    with pytest.raises(StoreError):
        preferences.close()


def test_equal_questions_have_equal_keys():
    assert preference_key({"a": 1, "b": [2, "é"]}) == preference_key({"b": [2, "é"], "a": 1})
    assert preference_key({"a": 1}) != preference_key({"a": 2})
    assert len(preference_key("x")) == 32


def test_a_file_of_an_earlier_version_is_read_and_takes_samples(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TABLE verdicts (key BLOB PRIMARY KEY, first REAL NOT NULL, one_token INTEGER NOT NULL) WITHOUT ROWID"
        )
        database.execute("INSERT INTO verdicts VALUES (?, 0.25, 1)", (preference_key("old"),))
        database.commit()
    for _ in range(2):
        with PreferenceStore(path) as preferences:
            assert preferences.get(preference_key("old")) == Preference(0.25, one_token=True)
            preferences.put(preference_key("new"), Preference(0.5, samples=4))
    with PreferenceStore(path) as preferences:
        assert preferences.get(preference_key("new")) == Preference(0.5, samples=4)
