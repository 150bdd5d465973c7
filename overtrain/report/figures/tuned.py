"""Figure 6: in-distribution and other scores at the tuned learning rate, with the rates that selection cannot tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from overtrain.report.endpoints import main_endpoints
from overtrain.report.figures.style import (
    BARS,
    Drawing,
    curve,
    finish,
    grid,
    incomplete,
    log_axis,
    plain,
    styles,
    token_axis,
)

if TYPE_CHECKING:
    from overtrain.report.assemble import Assembled

__all__ = ["draw"]


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per family: in distribution first, then every main endpoint."""
    curves = made.frame("curves")
    if curves.empty or not curves["tuned"].any():
        return []
    main = main_endpoints(made.endpoints)
    outside = [*(e for e in made.endpoints if e.kind == "id"), *(e for e in main if e.kind != "id")]
    drawings = []
    for family in dict.fromkeys(line.family for line in made.tuned):
        mine = curves[(curves["family"] == family) & curves["tuned"]]
        look = styles([line for line in made.tuned if line.family == family])
        inside = mine[~mine["endpoint"].isin({e.name for e in made.endpoints})]
        panels = [("In distribution", str(m).replace("_", " "), part, False) for m, part in inside.groupby("metric")]
        for e in outside:
            part = mine[(mine["endpoint"] == e.name) & (mine["metric"] == e.metric)]
            if len(part):
                panels.append(
                    (e.name, "perplexity per token" if e.scale == "nats" else e.unit, part, e.scale == "nats")
                )
        if panels:
            drawings.append(_draw(panels, family, look, made.frame("near")))
    return drawings


def _draw(
    panels: list[tuple[str, str, pd.DataFrame, bool]], family: str, look: dict[str, dict[str, Any]], near: pd.DataFrame
) -> Drawing:
    figure, axes = grid(len(panels))
    handles: dict[str, Any] = {}
    for axis, (title, unit, table, nats) in zip(axes, panels, strict=True):
        names = ("perplexity", "perplexity_low", "perplexity_high") if nats else None
        for label, style in look.items():
            part = table[table["line"] == label]
            if not len(part):
                continue
            _band(axis, near, part, style, nats=nats)
            handles[label] = curve(axis, part, style, names=names)
        if nats:
            axis.set_yscale("log")
            log_axis(axis.yaxis)
        token_axis(axis, table["budget"])
        axis.set_title(plain(title), fontsize="medium")
        axis.set_ylabel(plain(unit))
    finish(figure, handles, f"{BARS}; shaded: all rates within one standard error of the best")
    return Drawing(
        name=f"figure-6-{family}",
        title=f"{family}: at the tuned learning rate",
        caption="Every checkpoint at the learning rate that is best in distribution (the paper's Figure 6). The shaded band "
        "runs over all rates that selection cannot tell from the best.",
        alt=f"{len(panels)} panels against pre-training tokens at the tuned learning rate of {family}.",
        figure=figure,
        section="tuned",
        gaps=incomplete(pd.concat([table for _, _, table, _ in panels])),
    )


def _band(axis: Any, near: pd.DataFrame, part: pd.DataFrame, style: dict[str, Any], *, nats: bool) -> None:
    first = part.iloc[0]
    if near.empty:
        return
    mine = near[(near["line"] == first["line"]) & (near["family"] == first["family"])]
    mine = mine[(mine["endpoint"] == first["endpoint"]) & (mine["metric"] == first["metric"])]
    for place, (_, one_run) in enumerate(mine.groupby("run", sort=True)):
        run = one_run.dropna(subset=["low", "high"]).sort_values("budget")
        low, high = run["low"].to_numpy(float), run["high"].to_numpy(float)
        if nats:
            low, high = np.exp(low), np.exp(high)
        axis.fill_between(
            run["budget"].to_numpy(float), low, high, color=style["color"], alpha=0.12 if place else 0.18, linewidth=0
        )
