"""Worker processes: results, progress, errors, and a worker that dies."""

from __future__ import annotations

import os

import pytest

from model_wrappers.errors import StoreError
from overtrain.common.pool import Pool, report


def test_results_progress_and_environment_come_through(tmp_path):
    amounts = []
    with Pool(1, {"OVERTRAIN_PROBE": "there"}, tmp_path / "logs") as pool:
        pool.submit("environment", os.getenv, "OVERTRAIN_PROBE")
        pool.submit("progress", report, 7)
        pool.submit("noise", os.system, "echo printed by a child")
        results = dict(pool.finished(amounts.append))
    assert results == {"environment": "there", "progress": None, "noise": 0}
    assert amounts == [7]
    (log,) = (tmp_path / "logs").iterdir()
    assert "printed by a child" in log.read_text()


def test_a_jobs_error_is_raised_and_a_dead_worker_told():
    with pytest.raises(ValueError, match="invalid literal"), Pool(1) as pool:
        pool.submit("bad", int, "x")
        list(pool.finished(lambda _: None))
    with pytest.raises(StoreError, match=r"worker process was killed.*run the same command again"), Pool(1) as pool:
        pool.submit("dies", os._exit, 1)
        list(pool.finished(lambda _: None))
