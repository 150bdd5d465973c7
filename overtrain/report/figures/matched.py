"""Families at the same base loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from overtrain.report.figures.style import Drawing, finish, grid, plain

if TYPE_CHECKING:
    from overtrain.report.assemble import Assembled

__all__ = ["draw"]


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per pair of families and endpoint."""
    table = made.frame("matched")
    if table.empty:
        return []
    drawings = []
    keys = ["reference_family", "other_family", "endpoint", "metric"]
    for (reference, other, endpoint, metric), part in table.groupby(keys, sort=True):
        lines = list(part.groupby("line", sort=True))
        figure, axes = grid(len(lines))
        handles = {}
        for axis, (line, mine) in zip(axes, lines, strict=True):
            y = mine["difference"].to_numpy(float)
            bars = np.stack([y - mine["low"].to_numpy(float), mine["high"].to_numpy(float) - y])
            look = {"color": "#31688e", "marker": "o", "markersize": 5}
            bars = np.where(np.isfinite(bars), bars, 0)
            handles[f"{other} minus {reference}"] = axis.errorbar(mine["base"], y, yerr=bars, capsize=2, **look)
            axis.axhline(0, color="0.5", linewidth=0.8)
            axis.grid(visible=True, alpha=0.3)
            axis.set_title(plain(line), fontsize="medium")
            axis.set_xlabel("score of the unmodified models")
        axes[0].set_ylabel("difference (above 0: worse)")
        finish(figure, handles, "Bars: 95% intervals, base losses taken as known")
        drawings.append(
            Drawing(
                name=f"matched-{reference}-{other}-{endpoint}-{metric}",
                title=f"{other} against {reference} at equal base score: {endpoint}, {metric}",
                caption="Interpolated between checkpoints, nothing extrapolated. Do not read this for text that one family "
                "was pre-trained on and the other was not (C4 is part of some mixtures): the base losses then mean different "
                "things.",
                alt=f"Difference between {other} and {reference} after modification against the base score, {endpoint}.",
                figure=figure,
                section="matched",
            )
        )
    return drawings
