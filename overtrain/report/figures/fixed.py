"""Figures 3, 4 and 5: sensitivity and absolute values at fixed strengths, for noise, fine-tuning and anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    from overtrain.report.endpoints import Endpoint
    from overtrain.report.view import Kind, Line

__all__ = ["draw"]

_WHAT: dict[str, tuple[str, str]] = {
    "noise": ("noise", "Figure 3"),
    "finetune": ("fine-tuning", "Figures 4 and 5"),
    "other": ("other", ""),
}


@dataclass(frozen=True)
class _Panel:
    title: str
    ylabel: str
    quantity: str
    endpoint: str
    metric: str
    perplexity: bool = False


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per family, variant and main endpoint."""
    curves = made.frame("curves")
    if curves.empty:
        return []
    drawings = []
    for family, variant in dict.fromkeys((x.family, x.variant) for x in made.lines if x.kind != "base"):
        lines = [x for x in made.lines if x.family == family and (x.variant == variant or x.kind == "base")]
        kind = next(x.kind for x in lines if x.kind != "base")
        for endpoint in main_endpoints(made.endpoints):
            mine = curves[(curves["family"] == family) & curves["variant"].isin([variant, "base"]) & ~curves["tuned"]]
            panels = [p for p in _panels(made, mine, endpoint, kind) if len(_rows(mine, p))]
            if any(p.quantity != "value" for p in panels):
                drawings.append(_draw(mine, panels, lines, kind, endpoint))
    return drawings


def _panels(made: Assembled, mine: pd.DataFrame, endpoint: Endpoint, kind: Kind) -> list[_Panel]:
    nats, higher = endpoint.scale == "nats", endpoint.higher_is_better
    change = f"decrease of {endpoint.unit}" if higher else f"increase ({endpoint.unit})"
    panels = [_Panel("Sensitivity: modified against base", change, "sensitivity", endpoint.name, endpoint.metric)]
    if nats:
        panels.append(
            _Panel(
                "Sensitivity in perplexity",
                "increase (perplexity per token)",
                "sensitivity_perplexity",
                endpoint.name,
                endpoint.metric,
            )
        )
    unit = "perplexity per token" if nats else endpoint.unit
    panels.append(_Panel("Absolute", unit, "value", endpoint.name, endpoint.metric, nats))
    inside = mine[mine["endpoint"].isin(set(mine["endpoint"]) - {e.name for e in made.endpoints})]
    if kind == "finetune" and len(inside):
        first = inside.iloc[0]
        label = str(first["metric"]).replace("_", " ")
        panels.append(_Panel("In distribution", label, "value", str(first["endpoint"]), str(first["metric"])))
    if kind == "finetune" and endpoint.kind != "id":
        judged = [e for e in made.endpoints if e.kind == "id" and e.of != "tuned"]
        panels += [_Panel("In distribution", e.unit, "value", e.name, e.metric) for e in judged]
    return panels


def _rows(mine: pd.DataFrame, panel: _Panel) -> pd.DataFrame:
    return mine[
        (mine["quantity"] == panel.quantity) & (mine["endpoint"] == panel.endpoint) & (mine["metric"] == panel.metric)
    ]


def _draw(mine: pd.DataFrame, panels: list[_Panel], lines: list[Line], kind: Kind, endpoint: Endpoint) -> Drawing:
    figure, axes = grid(len(panels), columns=len(panels) if len(panels) < 4 else 2, width=3.9, height=3.2)
    look = styles(lines)
    handles: dict[str, Any] = {}
    for axis, panel in zip(axes, panels, strict=True):
        table = _rows(mine, panel)
        names = ("perplexity", "perplexity_low", "perplexity_high") if panel.perplexity else None
        for label, style in look.items():
            part = table[table["line"] == label]
            if len(part):
                handles[label] = curve(axis, part, style, names=names)
        if panel.quantity != "value":
            axis.axhline(0, color="0.5", linewidth=0.8)
        elif panel.perplexity:
            axis.set_yscale("log")
            log_axis(axis.yaxis)
        token_axis(axis, table["budget"])
        axis.set_title(panel.title, fontsize="medium")
        axis.set_ylabel(plain(panel.ylabel))
    finish(figure, handles, BARS)
    line = next(x for x in lines if x.kind != "base")
    section, number = _WHAT[kind]
    return Drawing(
        name=f"figure-{number.removeprefix('Figures ').removeprefix('Figure ').replace(' and ', '-') or 'x'}-{line.family}-"
        f"{line.variant}-{endpoint.name}-{endpoint.metric}",
        title=f"{line.family}, {line.variant}: {endpoint.name}, {endpoint.unit}",
        caption=f"Sensitivity is modified minus base, paired by document{_in_two(panels)}. A cross on the axis marks a budget "
        "without a complete result; the curve has a gap there." + (f" The paper's {number}." if number else ""),
        alt=f"{len(panels)} panels against pre-training tokens for {line.variant}: sensitivity and absolute values on "
        f"{endpoint.name}.",
        figure=figure,
        section=section,
        gaps=incomplete(pd.concat([_rows(mine, p) for p in panels])),
    )


def _in_two(panels: list[_Panel]) -> str:
    two = any(p.quantity == "sensitivity_perplexity" for p in panels)
    return "; in loss and in perplexity, because the two can disagree" if two else ""
