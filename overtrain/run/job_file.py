"""Passes one job to the processes that a sweep starts for it.

The job is pickled, so the processes run what the sweep has planned, whatever has happened to the study's YAML file since.
Reading a pickle runs code that its writer chose. The file is therefore written for its owner alone, and a file that
somebody else could have written is refused.
"""

from __future__ import annotations

import os
import pickle
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from model_wrappers.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from overtrain.plan.jobs import Job

__all__ = ["job_file", "read_job"]

_OWNER_ONLY = 0o600


@contextmanager
def job_file(job: Job) -> Iterator[Path]:
    """Write ``job`` into the study's work folder for the block; the file is removed afterwards.

    Call it while holding the cell's claim: the file's name is the cell's. A file that a killed sweep left is replaced.

    Raises:
        StoreError: the file cannot be written.
    """
    path = job.root / ".work" / f"{job.cell_id}.job"
    try:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
            with os.fdopen(handle, "wb") as opened:
                pickle.dump(job, opened)
        yield path
    finally:
        path.unlink(missing_ok=True)


def read_job(path: Path) -> Job:
    """Return the job that `job_file` wrote.

    Raises:
        StoreError: another user owns the file, others may write it, or it is no file of its own.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(handle, "rb") as opened:
        about = os.fstat(opened.fileno())
        ours = about.st_uid == os.geteuid() and stat.S_IMODE(about.st_mode) == _OWNER_ONLY
        if not ours or not stat.S_ISREG(about.st_mode):
            raise StoreError(
                f"{path} may have been written by another user, so it is not read; give `overtrain sweep` a --runs folder "
                "on a file system that keeps owners and permissions"
            )
        job: Any = pickle.load(opened)  # noqa: S301  (our own file, see above)
    return job
