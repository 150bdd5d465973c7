"""Attention over a forest in blocks: adjacent queries, the keys that at least one of them sees, and the mask between them.

With a dense mask over a row, attention would compute every pair of nodes, but most pairs do not see each other. In blocks, a
long chain without branches (few-shot examples, a question) is one block that is plainly causal and needs no mask. The
branches at its end (the choices) are small blocks that see the chain and themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_wrappers.scoring.forest import Ints, PackedRow

__all__ = ["LIMIT", "AttentionBlock", "blocks", "visible"]

LIMIT = 128
"""Largest number of nodes in a block with branches. Small blocks need more calls; large ones compute more useless pairs."""


@dataclass(frozen=True)
class AttentionBlock:
    """Queries ``start .. stop - 1`` of a row and their keys.

    Attributes:
        start: first query.
        stop: one more than the last query.
        keys: nodes that at least one of the queries sees, ascending; the queries themselves come last.
        causal: whether every query sees all keys up to itself. Then no mask is needed if the keys are the queries.
    """

    start: int
    stop: int
    keys: Ints
    causal: bool


def blocks(row: PackedRow, limit: int = LIMIT) -> list[AttentionBlock]:
    """Return blocks that together contain every node of ``row`` once."""
    end = row.end
    count = len(end)
    # For each node, the end of its chain without branches: one more than the chain's first node with no or several children.
    stops = np.arange(1, count + 1)
    breaks = np.ones(count, bool)
    breaks[:-1] = end[1:] != end[:-1]
    last = np.flatnonzero(breaks)
    stops = last[np.searchsorted(last, np.arange(count))] + 1
    return list(_cover((end, stops), 0, count, np.empty(0, np.int64), limit))


def visible(
    row: PackedRow, block: AttentionBlock, window: int | None = None
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return whether each query of a block sees each key, shape (queries, keys).

    Args:
        row: the row.
        block: a block of this row.
        window: length of sliding-window attention: a query sees itself and ``window - 1`` ancestors. None for no window.
    """
    queries = np.arange(block.start, block.stop)[:, None]
    keys = block.keys[None]
    seen = (keys <= queries) & (queries < row.end[keys])
    if window is not None:
        seen &= row.depth[keys] > row.depth[queries] - window
    return np.asarray(seen)


def _cover(ends: tuple[Ints, Ints], start: int, stop: int, above: Ints, limit: int) -> Iterator[AttentionBlock]:
    """Return blocks for the sibling subtrees in ``start .. stop - 1`` whose ancestors are ``above``."""
    end, stops = ends
    begin = node = start
    while node < stop:
        size = int(end[node]) - node
        if size <= limit:
            if int(end[node]) - begin > limit:
                yield _block(begin, node, above, end)
                begin = node
            node = int(end[node])
            continue
        if begin < node:
            yield _block(begin, node, above, end)
        chain, behind = int(stops[node]), int(end[node])
        yield _block(node, chain, above, end)
        yield from _cover(ends, chain, behind, np.concatenate([above, np.arange(node, chain)]), limit)
        begin = node = behind
    if begin < stop:
        yield _block(begin, stop, above, end)


def _block(start: int, stop: int, above: Ints, end: Ints) -> AttentionBlock:
    chain = bool((end[start:stop] >= stop).all())
    return AttentionBlock(start, stop, np.concatenate([above, np.arange(start, stop)]), chain)
