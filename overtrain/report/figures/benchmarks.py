"""Figure 2: base (dashed) and tuned (solid) models against tokens, per benchmark and averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from overtrain.report.comparisons import figure_2_lines
from overtrain.report.endpoints import BIASED
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
from overtrain.report.win_rates import references

if TYPE_CHECKING:
    from overtrain.report.assemble import Assembled
    from overtrain.report.endpoints import Endpoint

__all__ = ["draw"]


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per family and metric."""
    curves = made.frame("curves")
    lines = figure_2_lines(made.lines, made.tuned)
    if curves.empty or all(x.kind == "base" for x in lines):
        return []
    drawings = []
    outside = [e for e in made.endpoints if e.kind != "id"]
    judged = [e for e in made.endpoints if e.kind == "id"]
    beside = next((e.metric for e in outside if e.scale == "share"), outside[0].metric if outside else "win_rate")
    for metric in dict.fromkeys([*(e.metric for e in outside), *([] if outside else ["win_rate"])]):
        others = [e for e in outside if e.metric == metric]
        for family in dict.fromkeys(x.family for x in lines):
            mine = curves[(curves["family"] == family) & (curves["quantity"] == "value")]
            shown = {x.label for x in lines if x.family == family}
            here = [e for e in judged if metric == beside and len(_rows(mine, e, shown))]
            panels = [*here, *others]
            mine = pd.concat([mine.iloc[:0], *(_rows(mine, e, shown) for e in panels)])
            labels = [x for x in lines if x.family == family and (mine["line"] == x.label).any()]
            if any(x.kind != "base" for x in labels):
                said = _references(made, family) if here else ""
                drawings.append(_draw(mine, panels, family, metric, styles(labels), judged=said))
    return drawings


def _rows(curves: pd.DataFrame, endpoint: Endpoint, shown: set[str]) -> pd.DataFrame:
    of_it = (curves["endpoint"] == endpoint.name) & (curves["metric"] == endpoint.metric)
    return curves[of_it & curves["line"].isin(shown)]


def _references(made: Assembled, family: str) -> str:
    found = references(made.frame("win_rates"), made.study.get("judged") or {})
    mine = [
        f"{name.removeprefix(f'{family}, ')}: {what}" for name, what in found.items() if name.startswith(f"{family}, ")
    ]
    said = f" AlpacaEval's win rates are against the reference of {'; of '.join(mine)}." if mine else ""
    biased = any(e.kind == "id" and e.of == "tuned" for e in made.endpoints)
    return f"{said} They are {BIASED}." if biased else said


def _draw(
    mine: pd.DataFrame,
    panels: list[Endpoint],
    family: str,
    metric: str,
    look: dict[str, dict[str, object]],
    *,
    judged: str,
) -> Drawing:
    figure, axes = grid(len(panels))
    handles = {}
    for place, (panel, endpoint) in enumerate(zip(axes, panels, strict=True)):
        table = mine[(mine["endpoint"] == endpoint.name) & (mine["metric"] == endpoint.metric)]
        nats = endpoint.scale == "nats"
        names = ("perplexity", "perplexity_low", "perplexity_high") if nats else ("mean", "low", "high")
        for label, style in look.items():
            part = table[table["line"] == label]
            if len(part):
                handles[label] = curve(panel, part, style, names=names)
        if nats:
            panel.set_yscale("log")
            log_axis(panel.yaxis)
        if len(table):
            token_axis(panel, table["budget"], label=place >= len(panels) - 3)
        panel.set_title(plain(endpoint.name), fontsize="medium")
        if place % 3 == 0 or endpoint.unit != panels[place - 1].unit:
            panel.set_ylabel(plain("perplexity per token" if nats else endpoint.unit))
    finish(figure, handles, f"{BARS}; lines join the measured budgets")
    better = "Higher is better." if panels[-1].higher_is_better else "Lower is better."
    better += "" if panels[-1].higher_is_better or not judged else " A higher win rate is better."
    average = " The average weighs tasks equally." if any(e.average for e in panels) else ""
    return Drawing(
        name=f"figure-2-{family}-{metric}",
        title=f"{family}: {' and '.join(dict.fromkeys(e.unit for e in panels))}",
        caption=f"Base models dashed, fine-tuned models at their tuned learning rate solid. {better}{average}{judged}",
        alt=f"{len(panels)} panels of {panels[-1].unit} against pre-training tokens, base and fine-tuned models of {family}.",
        figure=figure,
        section="benchmarks",
        gaps=incomplete(mine[mine["line"].isin(list(look))]),
    )
