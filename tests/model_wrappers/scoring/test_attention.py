"""The attention itself: blocks on a CPU and FlexAttention's mask against a dense one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from model_wrappers.scoring import attention
from model_wrappers.scoring.attention import Unproven
from model_wrappers.scoring.forest import rows


@pytest.fixture
def row():
    """Ten sequences, nine of which share 70 tokens."""
    rng = np.random.default_rng(0)
    start = rng.integers(0, 50, 70)
    ends = [rng.integers(0, 50, rng.integers(1, 30)) for _ in range(9)]
    sequences = [np.concatenate([start, end]).astype(np.int32) for end in ends]
    (made,) = rows([*sequences, rng.integers(0, 50, 40).astype(np.int32)], [1] * 10, 4096)
    return made


def dense(row, query, key, value, window):
    """Attend with the mask that the definition gives, all pairs at once."""
    at = np.arange(len(row.tokens))
    seen = (at[None] <= at[:, None]) & (at[:, None] < row.end[None])
    if window:
        seen &= row.depth[None] > row.depth[:, None] - window
    key, value = (t.repeat_interleave(2, dim=1) for t in (key, value))
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, torch.from_numpy(seen), scale=0.3)
    return out.transpose(1, 2)


# FlexAttention without a compiler warns that it is slow; what it computes is the same
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("window", [None, 20])
def test_blocks_and_flex_attention_are_the_dense_attention(row, window, monkeypatch):
    monkeypatch.setattr(attention, "_compiled", lambda: flex_attention)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, len(row.tokens), 16, generator=generator) for heads in (4, 2, 2))
    expected = dense(row, query, key, value, window)
    now = attention._RowInModel(row, torch.device("cpu"))
    held = attention._current.set(now)
    try:
        blocks, _ = attention._attend(torch.nn.Identity(), query, key, value, None, scaling=0.3, sliding_window=window)
    finally:
        attention._current.reset(held)
    torch.testing.assert_close(blocks, expected)
    torch.testing.assert_close(attention._flex(query, key, value, 0.3, now.flex(window)), expected)


@pytest.mark.parametrize("more", [{"softcap": 50.0}, {"s_aux": torch.zeros(4)}, {"dropout": 0.1}])
def test_what_it_does_not_do_is_refused(row, more):
    states = torch.randn(1, 4, len(row.tokens), 16)
    held = attention._current.set(attention._RowInModel(row, torch.device("cpu")))
    try:
        with pytest.raises(Unproven):
            attention._attend(torch.nn.Identity(), states, states, states, None, **more)
    finally:
        attention._current.reset(held)


def test_outside_of_scoring_it_refuses(row):
    states = torch.randn(1, 4, len(row.tokens), 16)
    with pytest.raises(Unproven):
        attention._attend(torch.nn.Identity(), states, states, states, None)


def test_too_little_memory_is_not_taken_for_a_kernel_that_cannot_be_compiled(row, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(attention, "_compiled", lambda: full)
    states = torch.randn(1, 4, len(row.tokens), 16)
    with pytest.raises(torch.OutOfMemoryError):
        attention._flex(states, states, states, None, None)
