"""Figures 3, 4 and 5: sensitivity and absolute values at fixed settings, one section per category of modifications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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
from overtrain.report.effects import sensitivity_trend, shown_to_turn
from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.curves import Curve
    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["FixedSettings"]


class FixedSettings(Section):
    """The curves of one category of modifications at fixed settings; each category is a subclass in its own file.

    Class attributes:
        category: of the modifications that the section shows.
        what: how a sentence about the category begins, e.g. ``After noise``.
        number: of the paper's figures, e.g. ``Figure 3``; empty where the paper has none.
    """

    category: ClassVar[str]
    what: ClassVar[str]
    number: ClassVar[str] = ""

    def shows(self, category: str) -> bool:
        """Return whether the section shows curves of this category."""
        return category == self.category

    def effects(self, data: ReportData) -> Iterator[str]:
        """Say whether the curves are shown to turn, and whether their sensitivity is shown to grow."""

        def mine(rows: pd.DataFrame) -> pd.Series:
            return rows["kind"].map(self.shows) & ~rows["tuned"]

        yield from shown_to_turn(data, self.what, mine)
        if len(data.frame("verdicts")) and mine(data.frame("verdicts")).any():
            yield from sensitivity_trend(data, self.what, mine)

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per family, variant and main measure."""
        every = data.frame("curves")
        if every.empty:
            return
        variants = dict.fromkeys((x.family, x.variant) for x in data.curves if not x.base and self.shows(x.category))
        for family, variant in variants:
            curves = [x for x in data.curves if x.family == family and (x.variant == variant or x.base)]
            rows = every[(every["family"] == family) & every["variant"].isin([variant, "base"]) & ~every["tuned"]]
            trains = any(x.selectable for x in curves)
            for measure in data.main:
                panels = [p for p in _panels(data, rows, measure, trains=trains) if len(_rows(rows, p))]
                if any(p.quantity != "value" for p in panels):
                    yield _draw(rows, panels, curves, measure, self.number)


@dataclass(frozen=True)
class _Panel:
    title: str
    ylabel: str
    quantity: str
    measure: str
    metric: str
    perplexity: bool = False


def _panels(data: ReportData, mine: pd.DataFrame, measure: Measure, *, trains: bool) -> list[_Panel]:
    """Return the panels of one figure; modifications that train have their in-distribution metric as well."""
    nats, higher = measure.scale == "nats", measure.higher_is_better
    change = f"decrease of {measure.unit}" if higher else f"increase ({measure.unit})"
    panels = [_Panel("Sensitivity: modified against base", change, "sensitivity", measure.name, measure.metric)]
    if nats:
        panels.append(
            _Panel(
                "Sensitivity in perplexity",
                "increase (perplexity per token)",
                "sensitivity_perplexity",
                measure.name,
                measure.metric,
            )
        )
    unit = "perplexity per token" if nats else measure.unit
    panels.append(_Panel("Absolute", unit, "value", measure.name, measure.metric, nats))
    inside = mine[mine["endpoint"].isin(set(mine["endpoint"]) - {m.name for m in data.measures})]
    if trains and len(inside):
        first = inside.iloc[0]
        label = str(first["metric"]).replace("_", " ")
        panels.append(_Panel("In distribution", label, "value", str(first["endpoint"]), str(first["metric"])))
    if trains and measure.outside:
        judged = [m for m in data.measures if not m.outside and m.covers != "tuned"]
        panels += [_Panel("In distribution", m.unit, "value", m.name, m.metric) for m in judged]
    return panels


def _rows(mine: pd.DataFrame, panel: _Panel) -> pd.DataFrame:
    return mine[
        (mine["quantity"] == panel.quantity) & (mine["endpoint"] == panel.measure) & (mine["metric"] == panel.metric)
    ]


def _draw(mine: pd.DataFrame, panels: list[_Panel], curves: list[Curve], measure: Measure, number: str) -> Drawing:
    figure, axes = grid(len(panels), columns=len(panels) if len(panels) < 4 else 2, width=3.9, height=3.2)
    look = styles(curves)
    handles: dict[str, Any] = {}
    for axis, panel in zip(axes, panels, strict=True):
        table = _rows(mine, panel)
        names = ("perplexity", "perplexity_low", "perplexity_high") if panel.perplexity else None
        for label, style in look.items():
            part = table[table["line"] == label]
            if len(part):
                handles[label] = draw_curve(axis, part, style, names=names)
        if panel.quantity != "value":
            axis.axhline(0, color="0.5", linewidth=0.8)
        elif panel.perplexity:
            axis.set_yscale("log")
            log_axis(axis.yaxis)
        token_axis(axis, table["budget"])
        axis.set_title(panel.title, fontsize="medium")
        axis.set_ylabel(plain(panel.ylabel))
    finish(figure, handles, BARS)
    curve = next(x for x in curves if not x.base)
    return Drawing(
        name=f"figure-{number.removeprefix('Figures ').removeprefix('Figure ').replace(' and ', '-') or 'x'}-{curve.family}-"
        f"{curve.variant}-{measure.name}-{measure.metric}",
        title=f"{curve.family}, {curve.variant}: {measure.name}, {measure.unit}",
        caption=f"Sensitivity is modified minus base, paired by document{_in_two(panels)}. A cross on the axis marks a budget "
        "without a complete result; the curve has a gap there." + (f" The paper's {number}." if number else ""),
        alt=f"{len(panels)} panels against pre-training tokens for {curve.variant}: sensitivity and absolute values on "
        f"{measure.name}.",
        figure=figure,
        gaps=incomplete(pd.concat([_rows(mine, p) for p in panels])),
    )


def _in_two(panels: list[_Panel]) -> str:
    two = any(p.quantity == "sensitivity_perplexity" for p in panels)
    return "; in loss and in perplexity, because the two can disagree" if two else ""
