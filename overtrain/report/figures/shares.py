"""Which benchmark carries the document variance of an average."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.figures.style import Drawing, finish, grid, plain

if TYPE_CHECKING:
    from overtrain.report.assemble import Assembled

__all__ = ["draw"]


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per family, a panel per metric."""
    table = made.frame("shares")
    if table.empty:
        return []
    drawings = []
    for family, part in table.groupby("family", sort=True):
        panels = list(part.groupby("metric", sort=False))
        tasks = max(mine["task"].nunique() for _, mine in panels)
        figure, axes = grid(len(panels), height=1.2 + 0.28 * tasks)
        for axis, (metric, tasks_of) in zip(axes, panels, strict=True):
            mine = tasks_of.sort_values("share")
            axis.barh([plain(t) for t in mine["task"]], 100 * mine["share"], color="#31688e")
            axis.axvline(100 / len(mine), color="0.3", linestyle="--", linewidth=1)
            axis.set_title(plain(str(metric).replace("_", " ")), fontsize="medium")
            axis.set_xlabel("% of the average's variance")
            axis.set_xlim(left=0)
        finish(figure, {}, "Dashed: equal shares; no bars")
        drawings.append(
            Drawing(
                name=f"variance-shares-{family}",
                title=f"{family}: variance shares of the average",
                caption="Variance over documents of the unweighted average, by benchmark, at the last base checkpoint. With "
                "equal weights a benchmark of few documents can carry most of it.",
                alt=f"Share of the average's document variance by benchmark, {family}.",
                figure=figure,
                section="shares",
            )
        )
    return drawings
