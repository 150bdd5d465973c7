"""Attention over a forest in blocks: queries that lie together, the keys that any of them may see, and the mask between them.

A dense mask over a row would compute every pair of nodes, most of which do not see each other. Here a long stretch of single
children (few-shot examples, a question) is a block of its own, plainly causal and without a mask; what branches off it (the
choices) are small blocks that see it and themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_wrappers.scoring.forest import Ints, Row

__all__ = ["LIMIT", "Block", "blocks", "visible"]

LIMIT = 128
"""Nodes of a branching block at most: small ones cost calls, large ones pairs that do not see each other."""


@dataclass(frozen=True)
class Block:
    """Queries ``start .. stop - 1`` of a row and their keys.

    Attributes:
        start: first query.
        stop: behind the last one.
        keys: nodes that any of the queries may see, ascending; the queries are the last of them.
        causal: whether every query sees all keys up to itself: then no mask is needed where the keys are the queries.
    """

    start: int
    stop: int
    keys: Ints
    causal: bool


def blocks(row: Row, limit: int = LIMIT) -> list[Block]:
    """Return blocks that cover every node of ``row`` once."""
    end = row.end
    count = len(end)
    # Where the stretch of single children that a node is on stops: behind the first node that has none or several.
    stops = np.arange(1, count + 1)
    breaks = np.ones(count, bool)
    breaks[:-1] = end[1:] != end[:-1]
    last = np.flatnonzero(breaks)
    stops = last[np.searchsorted(last, np.arange(count))] + 1
    return list(_cover((end, stops), 0, count, np.empty(0, np.int64), limit))


def visible(row: Row, block: Block, window: int | None = None) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return which query of a block sees which of its keys, shape (queries, keys).

    Args:
        row: of the block.
        block: one of its blocks.
        window: of sliding-window attention, in positions: a query sees itself and ``window - 1`` ancestors.
    """
    queries = np.arange(block.start, block.stop)[:, None]
    keys = block.keys[None]
    seen = (keys <= queries) & (queries < row.end[keys])
    if window is not None:
        seen &= row.depth[keys] > row.depth[queries] - window
    return np.asarray(seen)


def _cover(ends: tuple[Ints, Ints], start: int, stop: int, above: Ints, limit: int) -> Iterator[Block]:
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


def _block(start: int, stop: int, above: Ints, end: Ints) -> Block:
    chain = bool((end[start:stop] >= stop).all())
    return Block(start, stop, np.concatenate([above, np.arange(start, stop)]), chain)
