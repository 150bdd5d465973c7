"""Figure 2: base (dashed) and tuned (solid) models against tokens, per benchmark and averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

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
from overtrain.report.measures import BIASED
from overtrain.report.references import references
from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Benchmarks"]


class Benchmarks(Section):
    """Base and modified models on everything that is measured."""

    key = "benchmarks"
    title = "Benchmarks and text: base and tuned"
    order = 20

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that the study holds base models alone."""
        if all(curve.base for curve in data.curves):
            yield "No modified cells: the study holds base models alone."

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per family and metric."""
        curves, lines = data.frame("curves"), data.headline_curves()
        if curves.empty or all(x.base for x in lines):
            return
        outside = [m for m in data.measures if m.outside]
        judged = [m for m in data.measures if not m.outside]
        beside = next((m.metric for m in outside if m.scale == "share"), outside[0].metric if outside else "win_rate")
        for metric in dict.fromkeys([*(m.metric for m in outside), *([] if outside else ["win_rate"])]):
            others = [m for m in outside if m.metric == metric]
            for family in dict.fromkeys(x.family for x in lines):
                mine = curves[(curves["family"] == family) & (curves["quantity"] == "value")]
                shown = {x.label for x in lines if x.family == family}
                here = [m for m in judged if metric == beside and len(_rows(mine, m, shown))]
                panels = [*here, *others]
                mine = pd.concat([mine.iloc[:0], *(_rows(mine, m, shown) for m in panels)])
                labels = [x for x in lines if x.family == family and (mine["line"] == x.label).any()]
                if any(not x.base for x in labels):
                    said = _references(data, family) if here else ""
                    yield _draw(mine, panels, family, metric, styles(labels), judged=said)


def _rows(curves: pd.DataFrame, measure: Measure, shown: set[str]) -> pd.DataFrame:
    of_it = (curves["endpoint"] == measure.name) & (curves["metric"] == measure.metric)
    return curves[of_it & curves["line"].isin(shown)]


def _references(data: ReportData, family: str) -> str:
    """Return what the caption says of AlpacaEval's references."""
    found = references(data)
    mine = [
        f"{name.removeprefix(f'{family}, ')}: {what}" for name, what in found.items() if name.startswith(f"{family}, ")
    ]
    said = f" AlpacaEval's win rates are against the reference of {'; of '.join(mine)}." if mine else ""
    biased = any(not m.outside and m.covers == "tuned" for m in data.measures)
    return f"{said} They are {BIASED}." if biased else said


def _draw(
    mine: pd.DataFrame,
    panels: list[Measure],
    family: str,
    metric: str,
    look: dict[str, dict[str, object]],
    *,
    judged: str,
) -> Drawing:
    figure, axes = grid(len(panels))
    handles = {}
    for place, (panel, measure) in enumerate(zip(axes, panels, strict=True)):
        table = mine[(mine["endpoint"] == measure.name) & (mine["metric"] == measure.metric)]
        nats = measure.scale == "nats"
        names = ("perplexity", "perplexity_low", "perplexity_high") if nats else ("mean", "low", "high")
        for label, style in look.items():
            part = table[table["line"] == label]
            if len(part):
                handles[label] = draw_curve(panel, part, style, names=names)
        if nats:
            panel.set_yscale("log")
            log_axis(panel.yaxis)
        if len(table):
            token_axis(panel, table["budget"], label=place >= len(panels) - 3)
        panel.set_title(plain(measure.name), fontsize="medium")
        if place % 3 == 0 or measure.unit != panels[place - 1].unit:
            panel.set_ylabel(plain("perplexity per token" if nats else measure.unit))
    finish(figure, handles, f"{BARS}; lines join the measured budgets")
    better = "Higher is better." if panels[-1].higher_is_better else "Lower is better."
    better += "" if panels[-1].higher_is_better or not judged else " A higher win rate is better."
    average = " The average weighs tasks equally." if any(m.average for m in panels) else ""
    return Drawing(
        name=f"figure-2-{family}-{metric}",
        title=f"{family}: {' and '.join(dict.fromkeys(m.unit for m in panels))}",
        caption=f"Base models dashed, fine-tuned models at their tuned learning rate solid. {better}{average}{judged}",
        alt=f"{len(panels)} panels of {panels[-1].unit} against pre-training tokens, base and fine-tuned models of {family}.",
        figure=figure,
        gaps=incomplete(mine[mine["line"].isin(list(look))]),
    )
