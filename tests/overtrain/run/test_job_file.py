"""A job handed to another process: whole, private, removed; a file that somebody else could have written is refused."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest
from scripted_jobs import make_jobs

from model_wrappers.errors import StoreError
from overtrain.run.job_file import job_file, read_job


@pytest.fixture
def job(tmp_path):
    (job,) = make_jobs(tmp_path, "works")
    return job


def test_another_process_reads_the_same_job(job):
    with job_file(job) as path:
        assert read_job(path) == job
        code = "import sys, pathlib; from overtrain.run.job_file import read_job\n"
        code += "job = read_job(pathlib.Path(sys.argv[1])); print(job.cell_id, job.cell.key)"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [job.cell_id, job.cell.key]


def test_the_file_is_private_and_gone_afterwards(job):
    stale = job.root / ".work" / f"{job.cell_id}.job"
    stale.parent.mkdir()
    stale.write_bytes(b"left by a killed sweep")
    stale.chmod(0o666)
    with pytest.raises(RuntimeError, match="boom"), job_file(job) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        raise RuntimeError("boom")
    assert not list(stale.parent.iterdir())


@pytest.mark.parametrize("mode", [0o660, 0o602, 0o644])
def test_a_file_with_other_permissions_is_refused(job, mode):
    with job_file(job) as path:
        path.chmod(mode)
        with pytest.raises(StoreError, match="may have been written by another user"):
            read_job(path)


def test_a_link_is_refused(job, tmp_path):
    with job_file(job) as path:
        link = tmp_path / "link"
        link.symlink_to(path)
        with pytest.raises(OSError, match="link"):
            read_job(link)
