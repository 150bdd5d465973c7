"""What changes with the budget beside the budget: the pre-training's learning rate, repetition of its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.drawing import Drawing, finish, grid, token_axis
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.data import ReportData

__all__ = ["Confounds"]

_KEYS = ["family", "run", "checkpoint", "tokens"]
_CONFOUNDS = {
    "pretraining_learning_rate": ("the learning rate", "pre-training learning rate"),
    "pretraining_epochs": ("the passes over the pre-training data", "passes over the data"),
}
"""Column -> in a sentence, and on an axis. In the results the columns begin with ``checkpoint_``."""
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
        """Yield one row per checkpoint, from columns ``checkpoint_...`` of the results; what is not known is missing."""
        frame = data.scores.frame
        own = {c: c.replace("checkpoint_", "pretraining_") for c in frame.columns if str(c).startswith("checkpoint_")}
        table = data.cells[_KEYS].drop_duplicates().reset_index(drop=True)
        if own:
            known = frame[[*_KEYS, *own]].drop_duplicates(subset=_KEYS).rename(columns=own)
            table = table.merge(known, on=_KEYS, how="left")
        absent = [column for column in _CONFOUNDS if column not in table.columns]
        table = table.assign(**dict.fromkeys(absent, float("nan")))
        yield "confounds", table.sort_values([*_KEYS[:2], "tokens"]).reset_index(drop=True)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say which confound is not recorded."""
        table = data.frame("confounds")
        for column, (what, _) in _CONFOUNDS.items():
            if not table[column].notna().any():
                yield f"Confound not recorded: {what} at each checkpoint."

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure with a panel per confound that is recorded."""
        table = data.frame("confounds")
        known = [c for c in _CONFOUNDS if c in table.columns and table[c].notna().any()]
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
            axis.set_ylabel(_CONFOUNDS[column][1])
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
