"""Verdicts survive kills, full disks and company."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from model_wrappers.errors import StoreError
from overtrain_tasks.alpaca_eval.verdicts import Verdict, Verdicts, verdict_key

WRITER = """
import sys
from pathlib import Path
from overtrain_tasks.alpaca_eval.verdicts import Verdict, Verdicts, verdict_key
start, stop = int(sys.argv[2]), int(sys.argv[3])
with Verdicts(Path(sys.argv[1])) as verdicts:
    for n in range(start, stop):
        verdicts.put(verdict_key(n), Verdict(n / 1000, n % 2 == 0))
        if n % 20 == 0:
            verdicts.flush()
"""

HANGER = """
import sys, time
from pathlib import Path
from overtrain_tasks.alpaca_eval.verdicts import Verdict, Verdicts, verdict_key
verdicts = Verdicts(Path(sys.argv[1]))
verdicts.put(verdict_key("kept"), Verdict(0.25))
print("put", flush=True)
time.sleep(60)
"""


def test_what_was_put_is_there_at_once_and_afterwards(tmp_path):
    path = tmp_path / "judge" / "verdicts.sqlite"
    with Verdicts(path) as verdicts:
        assert verdicts.get(verdict_key("a")) is None
        verdicts.put(verdict_key("a"), Verdict(0.1 + 0.2, one_token=True))
        assert verdicts.get(verdict_key("a")) == Verdict(0.1 + 0.2, one_token=True)
    with Verdicts(path) as verdicts:
        assert verdicts.get(verdict_key("a")) == Verdict(0.1 + 0.2, one_token=True)
        verdicts.put(verdict_key("a"), Verdict(0.9))  # the first one stays
    with Verdicts(path) as verdicts:
        assert verdicts.get(verdict_key("a")).first == 0.1 + 0.2


def test_a_killed_process_loses_half_a_second_at_most(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    process = subprocess.Popen([sys.executable, "-c", HANGER, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "put\n"
    time.sleep(1.2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with Verdicts(path) as verdicts:
        assert verdicts.get(verdict_key("kept")) == Verdict(0.25)


def test_several_processes_write_one_file(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    ranges = [(0, 400), (200, 600), (0, 600)]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(a), str(b)]) for a, b in ranges]
    assert [w.wait(60) for w in writers] == [0, 0, 0]
    with Verdicts(path) as verdicts:
        assert all(verdicts.get(verdict_key(n)) == Verdict(n / 1000, n % 2 == 0) for n in range(600))
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (600,)
    database.close()


def test_threads_may_share_one(tmp_path):
    with Verdicts(tmp_path / "v.sqlite") as verdicts:
        threads = [
            threading.Thread(target=lambda t=t: [verdicts.put(verdict_key([t, n]), Verdict(0.5)) for n in range(200)])
            for t in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(verdicts.get(verdict_key([t, n])) for t in range(4) for n in range(200))


def test_a_file_that_is_something_else(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    path.write_text("not a database, " * 100)
    with pytest.raises(StoreError, match=r"verdicts.sqlite cannot be read or written .*delete it"):
        Verdicts(path)


def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    with Verdicts(path) as verdicts:
        verdicts.put(verdict_key("early"), Verdict(0.5))
    verdicts = Verdicts(path)
    verdicts._database.execute("PRAGMA max_page_count = 2")  # SQLite's own way to be full
    for n in range(1000):
        verdicts.put(verdict_key(n), Verdict(0.5))
    with pytest.raises(StoreError, match="full"):
        verdicts.close()
    with Verdicts(path) as verdicts:
        assert verdicts.get(verdict_key("early")) == Verdict(0.5)
        assert verdicts.get(verdict_key(5)) is None


def test_a_full_disk_stops_the_work_while_it_runs(tmp_path):
    verdicts = Verdicts(tmp_path / "verdicts.sqlite")
    verdicts._database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(StoreError, match="full"):
        for n in range(1_000_000):
            verdicts.put(verdict_key(n), Verdict(0.5))
            time.sleep(0.0005)
    with pytest.raises(StoreError):
        verdicts.close()


def test_equal_questions_have_equal_keys():
    assert verdict_key({"a": 1, "b": [2, "é"]}) == verdict_key({"b": [2, "é"], "a": 1})
    assert verdict_key({"a": 1}) != verdict_key({"a": 2})
    assert len(verdict_key("x")) == 32
