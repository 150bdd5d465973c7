"""Figure 2: base (dashed) and tuned (solid) models against tokens, per benchmark and averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.comparisons import figure_2_lines
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
    import pandas as pd

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
    for metric in dict.fromkeys(e.metric for e in outside):
        panels = [e for e in outside if e.metric == metric]
        for family in dict.fromkeys(x.family for x in lines):
            mine = curves[(curves["family"] == family) & (curves["metric"] == metric) & (curves["quantity"] == "value")]
            labels = [x for x in lines if x.family == family and (mine["line"] == x.label).any()]
            if any(x.kind != "base" for x in labels):
                drawings.append(_draw(mine, panels, family, metric, styles(labels)))
    return drawings


def _draw(
    mine: pd.DataFrame, panels: list[Endpoint], family: str, metric: str, look: dict[str, dict[str, object]]
) -> Drawing:
    figure, axes = grid(len(panels))
    handles = {}
    for place, (panel, endpoint) in enumerate(zip(axes, panels, strict=True)):
        table = mine[mine["endpoint"] == endpoint.name]
        nats = endpoint.scale == "nats"
        names = ("perplexity", "perplexity_low", "perplexity_high") if nats else ("mean", "low", "high")
        for label, style in look.items():
            part = table[table["line"] == label]
            if len(part):
                handles[label] = curve(panel, part, style, names=names)
        if nats:
            panel.set_yscale("log")
            log_axis(panel.yaxis)
        token_axis(panel, table["budget"], label=place >= len(panels) - 3)
        panel.set_title(plain(endpoint.name), fontsize="medium")
        if place % 3 == 0:
            panel.set_ylabel(plain("perplexity per token" if nats else endpoint.unit))
    finish(figure, handles, f"{BARS}; lines join the measured budgets")
    better = "Higher is better." if panels[0].higher_is_better else "Lower is better."
    return Drawing(
        name=f"figure-2-{family}-{metric}",
        title=f"{family}: {panels[0].unit}",
        caption=f"Base models dashed, fine-tuned models at their tuned learning rate solid. {better} The average weighs tasks "
        "equally.",
        alt=f"{len(panels)} panels of {panels[0].unit} against pre-training tokens, base and fine-tuned models of {family}.",
        figure=figure,
        section="benchmarks",
        gaps=incomplete(mine[mine["line"].isin(list(look))]),
    )
