"""The pre-training's learning rate and the passes over its data at each checkpoint, where they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.confounds import COLUMNS
from overtrain.report.figures.style import Drawing, finish, grid, token_axis

if TYPE_CHECKING:
    from overtrain.report.assemble import Assembled

__all__ = ["draw"]

_LABELS = {COLUMNS[0]: "pre-training learning rate", COLUMNS[1]: "passes over the data"}
_LOOKS = (("#31688e", "o"), ("#cc5500", "s"), ("#440154", "^"), ("#22a884", "D"))


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure with a panel per confound that is recorded."""
    table = made.frame("confounds")
    known = [c for c in COLUMNS if c in table.columns and table[c].notna().any()]
    if not known:
        return []
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
        axis.set_ylabel(_LABELS[column])
        axis.set_ylim(bottom=0)
    finish(figure, handles, "No bars: set by the pre-training")
    return [
        Drawing(
            name="confounds",
            title="What else changes with tokens",
            caption="A curve against tokens is a curve against these too. Checkpoints of one run differ in their learning "
            "rate; a budget larger than the data repeats it.",
            alt="Pre-training learning rate and passes over the data against tokens.",
            figure=figure,
            section="confounds",
        )
    ]
