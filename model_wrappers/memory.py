"""Makes the C library keep freed memory, which saves time on a CPU: every forward frees and requests the same sizes."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 2**30
_OWN_CHOICE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep up to 1 GiB of freed memory for later requests; return whether it does. Runs once per process.

    By default, the pages of a large tensor return to the kernel when the tensor is freed, and the next tensor of this size
    needs fresh, zeroed pages. The price is memory that stays with the process. Nothing is changed if the C library is not
    glibc, or if environment variables tune or replace the allocator.
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in _OWN_CHOICE):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (musl has a mallopt that does nothing)
        return all(libc.mallopt(which, _KEPT) == 1 for which in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
    except (OSError, AttributeError):
        return False
