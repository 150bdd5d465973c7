"""Token sequences as a forest of prefixes: what several of them begin with is one path, computed once.

Sequences are sorted; neighbours then share the longest prefixes, and writing down of each only what its predecessor lacks
gives the nodes of the forest in depth-first order. In that order a node's descendants follow it without a gap, so that one
number per node, where its subtree ends, says who attends to whom: ``q`` sees ``k`` if ``k <= q < end[k]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Ints", "Row", "Tokens", "rows"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Tokens = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class Row:
    """Some of the trees, to be computed in one forward pass. N nodes, S sequences.

    Attributes:
        tokens: of every node, depth-first, shape (N,).
        depth: position of every node in its sequence, from 0, shape (N,).
        end: where a node's subtree ends, shape (N,): its descendants are ``node + 1 .. end[node] - 1``.
        members: indices of the sequences in here, shape (S,).
        paths: nodes of each member's sequence, in order; each has as many as the sequence has tokens, or as were asked for.
    """

    tokens: Tokens
    depth: Ints
    end: Ints
    members: Ints
    paths: tuple[Ints, ...]


def rows(sequences: Sequence[Tokens], last: Sequence[int], budget: int) -> Iterator[Row]:
    """Pack sequences into rows of at most ``budget`` nodes; a sequence that is longer gets a row of its own.

    A tree goes into one row if it fits into any. One that does not is cut between two of its sequences, and what these share is
    computed in both rows.

    Args:
        sequences: tokens, each at least one.
        last: how many of each sequence's last nodes `Row.paths` shall have.
        budget: nodes of a row.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].tobytes())
    shared = [0, *(_common(sequences[i], sequences[j]) for i, j in pairwise(order))]
    row: list[int] = []
    size = 0
    for tree in _trees(order, shared):
        nodes = sum(len(sequences[order[i]]) - shared[i] for i in tree)
        if row and size + nodes > budget:
            yield _row(row, order, shared, sequences, last)
            row, size = [], 0
        if nodes <= budget:
            row += tree
            size += nodes
            continue
        for i in tree:
            length = len(sequences[order[i]])
            if row and size + length - shared[i] > budget:
                yield _row(row, order, shared, sequences, last)
                row, size = [], 0
            size += length if not row else length - shared[i]
            row.append(i)
    if row:
        yield _row(row, order, shared, sequences, last)


def _common(one: Tokens, other: Tokens) -> int:
    """Return how many tokens two sequences begin with alike."""
    n = min(len(one), len(other))
    different = one[:n] != other[:n]
    first = int(different.argmax()) if n else 0
    return first if n and different[first] else n


def _trees(order: Sequence[int], shared: Sequence[int]) -> Iterator[list[int]]:
    """Return places in ``order`` that belong to one tree."""
    tree: list[int] = []
    for i in range(len(order)):
        if tree and shared[i] == 0:
            yield tree
            tree = []
        tree.append(i)
    if tree:
        yield tree


def _row(
    places: Sequence[int], order: Sequence[int], shared: Sequence[int], sequences: Sequence[Tokens], last: Sequence[int]
) -> Row:
    longest = max(len(sequences[order[i]]) for i in places)
    path = np.zeros(longest, np.int64)
    tokens: list[Tokens] = []
    depth: list[Ints] = []
    paths: list[Ints] = []
    total = sum(len(sequences[order[i]]) for i in places)
    end = np.zeros(total, np.int64)
    count = length = 0
    for number, i in enumerate(places):
        sequence = sequences[order[i]]
        common = shared[i] if number else 0
        end[path[common:length]] = count
        new = len(sequence) - common
        path[common : len(sequence)] = np.arange(count, count + new)
        tokens.append(sequence[common:])
        depth.append(np.arange(common, len(sequence)))
        count, length = count + new, len(sequence)
        paths.append(path[length - last[order[i]] : length].copy())
    end[path[:length]] = count
    members = np.array([order[i] for i in places], np.int64)
    return Row(np.concatenate(tokens), np.concatenate(depth), end[:count], members, tuple(paths))
