"""The demo's fine-tuning data: sums of two numbers. ``configs/micro/arithmetic.jsonl`` was written by `write_rows`."""

from __future__ import annotations

import json
import random

__all__ = ["rows", "write_rows"]


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return ``count`` sums of two integers, drawn uniformly from 0 to 99, as prompt and completion.

    >>> rows(2)
    [{'prompt': '49 + 97 =', 'completion': ' 146'}, {'prompt': '53 + 5 =', 'completion': ' 58'}]
    """
    generator = random.Random(seed)  # noqa: S311
    pairs = [(generator.randrange(100), generator.randrange(100)) for _ in range(count)]
    return [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a, b in pairs]


def write_rows(count: int) -> str:
    """Return `rows` as the text of a JSONL file."""
    return "".join(json.dumps(row) + "\n" for row in rows(count))
