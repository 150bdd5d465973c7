"""Token sequences as a forest of prefixes: a prefix that several sequences share is one path, and is computed once.

The sequences are sorted, so that neighbours share the longest prefixes. Each sequence then adds only the tokens that it does
not share with the sequence before it. This gives the nodes of the forest in depth-first order. In this order, the descendants
of a node follow it without a gap. So one number per node, the end of its subtree, determines attention: ``q`` sees ``k`` if
``k <= q < end[k]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Ints", "PackedRow", "Tokens", "rows"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Tokens = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class PackedRow:
    """Trees that are computed together in one forward pass: N nodes, S sequences.

    Attributes:
        tokens: token of every node, in depth-first order, shape (N,).
        depth: position of every node in its sequence, from 0, shape (N,).
        end: end of every node's subtree, shape (N,): the descendants of a node are ``node + 1 .. end[node] - 1``.
        members: indices of the sequences in this row, shape (S,).
        paths: for each member, the last nodes of its sequence, in order.
    """

    tokens: Tokens
    depth: Ints
    end: Ints
    members: Ints
    paths: tuple[Ints, ...]


def rows(sequences: Sequence[Tokens], last: Sequence[int], budget: int) -> Iterator[PackedRow]:
    """Pack sequences into rows of at most ``budget`` nodes. A longer sequence gets its own row.

    A tree of at most ``budget`` nodes is in one row. A larger tree is cut between two sequences, and their shared prefix is
    computed in both rows.

    Args:
        sequences: token sequences, each with at least one token.
        last: number of each sequence's last nodes in `PackedRow.paths`.
        budget: largest number of nodes of a row.
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
    """Return the number of tokens in the longest common prefix of two sequences."""
    n = min(len(one), len(other))
    different = one[:n] != other[:n]
    first = int(different.argmax()) if n else 0
    return first if n and different[first] else n


def _trees(order: Sequence[int], shared: Sequence[int]) -> Iterator[list[int]]:
    """Yield, for each tree, the places in ``order`` of its sequences."""
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
) -> PackedRow:
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
    return PackedRow(np.concatenate(tokens), np.concatenate(depth), end[:count], members, tuple(paths))
