"""What changes with the budget beside the budget: the pre-training's learning rate, repetition of its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from overtrain.report.drawing import Drawing, finish, grid, token_axis
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData

__all__ = ["Confounds"]

_KEYS = ["family", "run", "checkpoint", "tokens"]
_PREFIX = "pretraining_"
_CONFOUNDS = {
    "learning_rate": ("the learning rate", "pre-training learning rate"),
    "epochs": ("the passes over the pre-training data", "passes over the data"),
}
"""Name in the study's ``points`` -> in a sentence, and on an axis. In the frame the names begin with ``pretraining_``."""
_COLUMNS = {
    "family": "family",
    "run": "run",
    "checkpoint": "checkpoint",
    "tokens": "tokens",
    "pretraining_learning_rate": "pre-training learning rate",
    "pretraining_epochs": "passes over the data",
}
_LOOKS = (("#31688e", "o"), ("#cc5500", "s"), ("#440154", "^"), ("#22a884", "D"))


class Confounds(Section):
    """What is known of the pre-training at each checkpoint."""

    key = "confounds"
    title = "Confounds"
    order = 170
    computes = ("confounds",)

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield one row per checkpoint, from the study's ``points`` and from columns ``checkpoint_...`` of the results.

        ``points`` is a list of ``{checkpoint, family, run, tokens, learning_rate, epochs}``; what is not known is missing.
        """
        frame = data.scores.frame
        own = {c: c.replace("checkpoint_", _PREFIX) for c in frame.columns if str(c).startswith("checkpoint_")}
        table = data.cells[_KEYS].drop_duplicates().reset_index(drop=True)
        if own:
            more = frame[[*_KEYS, *own]].drop_duplicates(subset=_KEYS).rename(columns=own)
            table = table.merge(more, on=_KEYS, how="left")
        points = data.study.get("points") or []
        told = pd.DataFrame([{k: v for k, v in point.items() if k in {*_KEYS, *_CONFOUNDS}} for point in points])
        if len(told):
            told = told.rename(columns={name: f"{_PREFIX}{name}" for name in _CONFOUNDS})
            on = [k for k in _KEYS if k in told.columns]
            fresh = [c for c in told.columns if c not in table.columns]
            table = table.merge(told[[*on, *fresh]].drop_duplicates(subset=on), on=on, how="left")
        absent = [f"{_PREFIX}{name}" for name in _CONFOUNDS if f"{_PREFIX}{name}" not in table.columns]
        table = table.assign(**dict.fromkeys(absent, float("nan")))
        yield "confounds", table.sort_values([*_KEYS[:2], "tokens"]).reset_index(drop=True)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say which confound is not recorded."""
        table = data.frame("confounds")
        for name, (what, _) in _CONFOUNDS.items():
            if not table[f"{_PREFIX}{name}"].notna().any():
                yield f"Confound not recorded: {what} at each checkpoint."

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure with a panel per confound that is recorded."""
        table = data.frame("confounds")
        labels = {f"{_PREFIX}{name}": label for name, (_, label) in _CONFOUNDS.items()}
        known = [c for c in labels if c in table.columns and table[c].notna().any()]
        if not known:
            return
        figure, axes = grid(len(known), width=4.6)
        handles = {}
        for axis, column in zip(axes, known, strict=True):
            for place, (family, known_part) in enumerate(table.dropna(subset=[column]).groupby("family", sort=True)):
                colour, marker = _LOOKS[place % len(_LOOKS)]
                part = known_part.drop_duplicates(["tokens", column]).sort_values("tokens")
                (handle,) = axis.plot(
                    part["tokens"], part[column].astype(float), color=colour, marker=marker, markersize=5, linewidth=1
                )
                handles[str(family)] = handle
            token_axis(axis, table["tokens"])
            axis.set_ylabel(labels[column])
            axis.set_ylim(bottom=0)
        finish(figure, handles, "No bars: set by the pre-training")
        yield Drawing(
            name="confounds",
            title="What else changes with tokens",
            caption="A curve against tokens is a curve against these too. Checkpoints of one run differ in their learning "
            "rate; a budget larger than the data repeats it.",
            alt="Pre-training learning rate and passes over the data against tokens.",
            figure=figure,
        )

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield one row per checkpoint."""
        yield table_of("Checkpoints", data.frame("confounds"), _COLUMNS, folded=True)
