"""Documents that a modification turns from right to wrong and from wrong to right, against tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.figures.style import Drawing, finish, grid, plain, token_axis

if TYPE_CHECKING:
    import pandas as pd

    from overtrain.report.assemble import Assembled

__all__ = ["draw"]

_SIDES = (("right_to_wrong", "right to wrong", "#9c3a00", "v"), ("wrong_to_right", "wrong to right", "#31688e", "^"))


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per family and line, with a panel per benchmark."""
    table = made.frame("transitions")
    if table.empty:
        return []
    return [
        _draw(part, str(family), str(line), sorted(set(made.cells.loc[made.cells["family"] == family, "tokens"])))
        for (family, line), part in table.groupby(["family", "line"], sort=True)
    ]


def _draw(table: pd.DataFrame, family: str, line: str, budgets: list[int]) -> Drawing:
    panels = list(table.groupby("endpoint", sort=True))
    figure, axes = grid(len(panels))
    handles = {}
    for place, (axis, (endpoint, part)) in enumerate(zip(axes, panels, strict=True)):
        for column, label, colour, marker in _SIDES:
            (handle,) = axis.plot(
                part["budget"], 100 * part[column] / part["n_documents"], color=colour, marker=marker, markersize=5,
                linestyle="none", alpha=0.75,
            )  # fmt: skip
            handles[label] = handle
        token_axis(axis, budgets, label=place >= len(panels) - 3)
        axis.set_title(plain(endpoint), fontsize="medium")
        axis.set_ylim(bottom=0)
        if place % 3 == 0:
            axis.set_ylabel("% of documents")
    finish(figure, handles, "One marker per seed, no bars; a budget without markers has no complete result")
    return Drawing(
        name=f"transitions-{family}-{line}",
        title=f"{family}, {line}: right to wrong, wrong to right",
        caption="Share of documents whose answer the modification turns, seed by seed: forgetting (right to wrong) "
        "apart from what is gained. The net change can be 0 while both are large.",
        alt=f"{len(panels)} panels: share of documents that turn from right to wrong and back, against tokens, for {line}.",
        figure=figure,
        section="transitions",
    )
