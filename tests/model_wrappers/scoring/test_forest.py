"""The forest of prefixes against a brute-force one: every sequence a path, every token once, who sees whom."""

from __future__ import annotations

import numpy as np
import pytest

from model_wrappers.scoring.blocks import blocks, visible
from model_wrappers.scoring.forest import rows


def random_sequences(seed: int, count: int = 40) -> list[np.ndarray]:
    """Sequences over three tokens that often share beginnings, some of them equal, some the beginning of others."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for _ in range(count):
        start = found[rng.integers(len(found))] if found and rng.random() < 0.7 else np.empty(0, np.int32)
        kept = start[: rng.integers(len(start) + 1)]
        found.append(np.concatenate([kept, rng.integers(0, 3, rng.integers(1, 9))]).astype(np.int32))
    return found


def ancestors(row, node: int) -> list[int]:
    """Return the nodes that contain ``node`` in their subtree, itself last, by their definition."""
    return [k for k in range(node + 1) if node < row.end[k]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [5, 17, 60, 10_000])
def test_every_sequence_is_a_path(seed, budget):
    sequences = random_sequences(seed)
    made = list(rows(sequences, [len(s) for s in sequences], budget))
    assert sorted(int(i) for row in made for i in row.members) == list(range(len(sequences)))
    for row in made:
        assert len(row.tokens) <= max(budget, *(len(sequences[i]) for i in row.members))
        for member, path in zip(row.members, row.paths, strict=True):
            assert row.tokens[path].tolist() == sequences[member].tolist()
            assert ancestors(row, int(path[-1])) == path.tolist()
            assert row.depth[path].tolist() == list(range(len(path)))


@pytest.mark.parametrize("seed", range(5))
def test_one_row_holds_every_distinct_prefix_once(seed):
    sequences = random_sequences(seed)
    (row,) = rows(sequences, [1] * len(sequences), 10_000)
    distinct = {tuple(s[: n + 1].tolist()) for s in sequences for n in range(len(s))}
    assert len(row.tokens) == len(distinct)
    assert [len(path) for path in row.paths] == [1] * len(sequences)


def test_a_tree_that_fits_is_not_cut():
    """Two trees of 6 nodes and a budget of 9: a row each, nothing twice."""
    sequences = [np.array(s, np.int32) for s in ([1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 1], [7, 8, 2, 2])]
    made = list(rows(sequences, [1] * 4, 9))
    assert [len(row.tokens) for row in made] == [6, 6]


@pytest.mark.parametrize("limit", [1, 3, 8, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_blocks_cover_every_node_and_see_its_ancestors(seed, limit):
    sequences = random_sequences(seed)
    for row in rows(sequences, [1] * len(sequences), 60):
        covered: list[int] = []
        for block in blocks(row, limit):
            covered += range(block.start, block.stop)
            seen = visible(row, block)
            near = visible(row, block, window=2)
            for place, query in enumerate(range(block.start, block.stop)):
                assert block.keys[seen[place]].tolist() == ancestors(row, query)
                assert block.keys[near[place]].tolist() == ancestors(row, query)[-2:]
            if block.causal:
                n = len(block.keys) - (block.stop - block.start)
                assert (seen == np.tri(block.stop - block.start, len(block.keys), n, dtype=bool)).all()
        assert sorted(covered) == list(range(len(row.tokens)))


def test_a_long_context_is_a_causal_block_without_ancestors():
    """What most requests are: 300 tokens, then four choices of three."""
    context = np.arange(300, dtype=np.int32)
    sequences = [np.concatenate([context, np.full(3, 400 + i, np.int32)]) for i in range(4)]
    (row,) = rows(sequences, [3] * 4, 4096)
    first, second = blocks(row)
    assert (first.start, first.stop, first.causal, len(first.keys)) == (0, 300, True, 300)
    assert (second.start, second.stop, second.causal, len(second.keys)) == (300, 312, False, 312)
