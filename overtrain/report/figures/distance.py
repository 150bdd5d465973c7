"""Figure 8: how far fine-tuning moves the weights, against the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.analysis.verdict import format_tokens
from overtrain.report.figures.style import Drawing, finish, grid, plain

if TYPE_CHECKING:
    from overtrain.report.assemble import Assembled

__all__ = ["draw"]

_MARKERS = "osD^vP*X"


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per family and variant whose cells recorded a distance."""
    table = made.frame("distances")
    if table.empty:
        return []
    drawings = []
    for (family, variant, settings), part in table.groupby(["family", "variant", "settings"], sort=True):
        figure, (axes,) = grid(1, width=6.0, height=4.0)
        handles = {}
        budgets = sorted(set(part["budget"]))
        for place, budget in enumerate(budgets):
            mine = part[part["budget"] == budget].sort_values("learning_rate")
            share = place / max(len(budgets) - 1, 1)
            (handle,) = axes.plot(
                mine["learning_rate"], mine["distance"],
                color=(0.27 * (1 - share) + 0.85 * share, 0.0 + 0.55 * share, 0.33 * (1 - share)),
                marker=_MARKERS[place % len(_MARKERS)], markersize=5, linewidth=1,
            )  # fmt: skip
            handles[f"{format_tokens(budget)} tokens"] = handle
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="learning rate (log scale)",
            ylabel="distance from the base (L2, log scale)",
        )
        axes.grid(visible=True, alpha=0.3)
        axes.set_title(plain(f"{variant}, {settings}" if settings else variant), fontsize="medium")
        finish(figure, handles, "Geometric means over seeds; no bars")
        name = f"figure-8-{family}-{variant}" + (f"-{settings}" if settings else "")
        drawings.append(
            Drawing(
                name=name,
                title=f"{family}, {variant}: distance against learning rate",
                caption="Each line is one checkpoint (the paper's Figure 8). Lines on top of each other: the distance does not "
                "depend on the amount of pre-training.",
                alt=f"Distance between base and fine-tuned weights against learning rate, one line per checkpoint, {variant}.",
                figure=figure,
                section="distance",
            )
        )
    return drawings
