"""What changes with the budget beside the budget: the pre-training's learning rate, repetition of its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from overtrain.report.work import Work

__all__ = ["COLUMNS", "confounds"]

COLUMNS = ("pretraining_learning_rate", "pretraining_epochs")
"""Columns of ``confounds`` beside family, run, checkpoint and tokens; missing where nobody knows."""

_NAMES = {"learning_rate": COLUMNS[0], "epochs": COLUMNS[1]}


def confounds(work: Work) -> None:
    """Add ``confounds``, one row per checkpoint, from the study's ``points`` and from columns ``checkpoint_...`` of the frame.

    ``points`` is a list of ``{checkpoint, family, run, tokens, learning_rate, epochs}``; what is not known is left out.
    """
    keys = ["family", "run", "checkpoint", "tokens"]
    cells, frame = work.scores.cells, work.scores.frame
    own = {c: c.replace("checkpoint_", "pretraining_") for c in frame.columns if str(c).startswith("checkpoint_")}
    table = cells[keys].drop_duplicates().reset_index(drop=True)
    if own:
        more = frame[[*keys, *own]].drop_duplicates(subset=keys).rename(columns=own)
        table = table.merge(more, on=keys, how="left")
    told = pd.DataFrame([{k: v for k, v in p.items() if k in {*keys, *_NAMES}} for p in work.study.get("points") or []])
    if len(told):
        told = told.rename(columns=_NAMES)
        on = [k for k in keys if k in told.columns]
        fresh = [c for c in COLUMNS if c in told.columns and c not in table.columns]
        table = table.merge(told[[*on, *fresh]].drop_duplicates(subset=on), on=on, how="left")
    for column in COLUMNS:
        if column not in table.columns:
            table[column] = float("nan")
    table = table.sort_values([*keys[:2], "tokens"]).reset_index(drop=True)
    work.add("confounds", table)
    for column, what in zip(COLUMNS, ("the learning rate", "the passes over the pre-training data"), strict=True):
        if not table[column].notna().any():
            work.notes.append(f"Confound not recorded: {what} at each checkpoint.")
