"""Figure 6: in-distribution and other scores at the tuned learning rate, with the rates that are as good as the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.optima import over_near_rates
from overtrain.report.drawing import (
    BARS,
    Drawing,
    draw_curve,
    finish,
    grid,
    incomplete,
    log_axis,
    plain,
    styles,
    token_axis,
)
from overtrain.report.effects import shown_to_turn
from overtrain.report.points import named
from overtrain.report.scores import SELECTED
from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Tuned"]


class Tuned(Section):
    """Every checkpoint at its best learning rate."""

    key = "tuned"
    title = "At the tuned learning rate"
    order = 70
    computes = ("near",)
    reads_selection: ClassVar[bool] = True

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the spread of a measure over the rates that selection cannot distinguish, in the metric's direction."""
        if measure.outside and measure not in data.main:
            return
        for curve in data.curves_on(measure):
            if not (curve.tuned and data.has_curve(curve, measure)):
                continue
            try:
                long = data.selection.candidates(curve, measure)
                weighted = long.assign(total=long["y"] * long["weight"])
                by_cell = weighted.groupby(["budget", "run", "seed", SELECTED], dropna=False)[["total", "weight"]]
                sums = by_cell.sum(min_count=1)
                target = sums.assign(value=sums["total"] / sums["weight"]).reset_index()
                near = over_near_rates(data.selection.metric[curve], target)
            except DataError as error:
                data.leave_out(curve.family, curve.label, measure.name, why=error)
                continue
            if measure.higher_is_better:
                near = near.assign(value=-near["value"], low=-near["high"], high=-near["low"])
            yield "near", named(near, curve, measure)

    def effects(self, data: ReportData) -> Iterator[str]:
        """Say whether curves at the tuned learning rate are shown to turn."""
        yield from shown_to_turn(data, "At the tuned learning rate", lambda rows: rows["tuned"])

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per family: in distribution first, then every main measure."""
        curves = data.frame("curves")
        if curves.empty or not curves["tuned"].any():
            return
        measures = [*(m for m in data.measures if not m.outside), *(m for m in data.main if m.outside)]
        for family in dict.fromkeys(curve.family for curve in data.tuned):
            mine = curves[(curves["family"] == family) & curves["tuned"]]
            look = styles([curve for curve in data.tuned if curve.family == family])
            inside = mine[~mine["endpoint"].isin({m.name for m in data.measures})]
            panels = [
                ("In distribution", str(m).replace("_", " "), part, False) for m, part in inside.groupby("metric")
            ]
            for measure in measures:
                part = mine[(mine["endpoint"] == measure.name) & (mine["metric"] == measure.metric)]
                nats = measure.scale == "nats"
                if len(part):
                    panels.append((measure.name, "perplexity per token" if nats else measure.unit, part, nats))
            if panels:
                yield _draw(panels, family, look, data.frame("near"))


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
            handles[label] = draw_curve(axis, part, style, names=names)
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
