"""What the tests on an accelerator share. They are what the first machine with one runs: ``pytest -m gpu -n 0``."""

from __future__ import annotations

import pytest


@pytest.fixture
def cuda():
    """The accelerator; without one a test skips."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch.cuda.is_available() is false: no NVIDIA GPU, or a build of torch without CUDA")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.device("cuda", 0)
