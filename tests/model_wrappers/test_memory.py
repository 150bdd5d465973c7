"""Freed memory, seen from the kernel's count of pages that it had to give out, in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from model_wrappers.memory import keep_freed_memory
import torch
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def round_of_work():
    for _ in range(4):
        torch.ones(24 << 20, dtype=torch.uint8).float()
round_of_work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
round_of_work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is tuned")


def pages(how, **environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], env={"PATH": "", **environment}, capture_output=True, text=True, check=True
    )
    kept, count = done.stdout.split()
    return kept, int(count)


def test_freed_pages_are_not_asked_for_again():
    kept, few = pages("keep")
    _, many = pages("leave")
    assert kept == "True"
    assert few < many / 2


def test_what_the_environment_says_of_the_allocator_stands():
    assert pages("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
