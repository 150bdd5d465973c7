"""Token rows become the arrays of one batch: flattened, or padded.

Both kinds of batch contain the same pairs of context and target. A flattened batch has no padding, but it needs a model that
separates the rows by their ``position_ids``. A padded batch works with every model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model_wrappers.training.tokenise import TokenisedRow

__all__ = ["IGNORED_LABEL", "flatten_batch", "pad_batch"]

IGNORED_LABEL = -100


def flatten_batch(rows: Sequence[TokenisedRow]) -> dict[str, NDArray[np.int64]]:
    """Concatenate rows into one sequence.

    Returns:
        ``input_ids`` (1, N); ``position_ids`` (1, N), which restart at 0 in every row; ``logit_rows`` (K,), the positions
        whose next token is a target; ``targets`` (K,), these targets. All are int64. N is the number of tokens, K is the
        number of targets. The first token of a row is never a target.
    """
    if not rows:
        raise ValueError("a batch needs at least one row")
    lengths = [len(row.input_ids) for row in rows]
    ids = np.concatenate([row.input_ids for row in rows]).astype(np.int64)
    mask = np.concatenate([row.target_mask for row in rows])
    starts = np.cumsum([0, *lengths[:-1]])
    mask[starts] = False
    places = np.flatnonzero(mask)
    return {
        "input_ids": ids[None],
        "position_ids": np.concatenate([np.arange(length) for length in lengths]).astype(np.int64)[None],
        "logit_rows": (places - 1).astype(np.int64),
        "targets": ids[places],
    }


def pad_batch(rows: Sequence[TokenisedRow], pad_id: int) -> dict[str, NDArray[np.int64]]:
    """Pad rows on the right to the length of the longest row.

    Returns:
        ``input_ids`` (B, T); ``attention_mask`` (B, T), 1 for a token of the row; ``labels`` (B, T), the token if it is a
        target, else -100. The model shifts labels, as in transformers. All are int64.
    """
    if not rows:
        raise ValueError("a batch needs at least one row")
    shape = (len(rows), max(len(row.input_ids) for row in rows))
    ids, attention = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED_LABEL, dtype=np.int64)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        ids[index, :length] = row.input_ids
        attention[index, :length] = 1
        labels[index, 1:length] = np.where(row.target_mask[1:], row.input_ids[1:], IGNORED_LABEL)
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}
