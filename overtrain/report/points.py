"""The points of every curve, as rows of the frame ``curves``: what most figures are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.curves import perplexity, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.curves import Curve
    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["curve_points", "in_metric_direction", "named", "points"]


def curve_points(data: ReportData, measure: Measure) -> Iterator[pd.DataFrame]:
    """Yield rows of the frame ``curves``: the value of every curve on one measure, and a gap for budgets without one."""
    for curve in data.curves_on(measure):
        try:
            table = points(data.long(curve, measure), measure, "value")
            if curve.tuned:
                table = _with_budgets_left_out(data, curve, measure, table)
        except DataError as error:
            where = (curve.family, curve.label) if measure.selects and not curve.tuned else (
                curve.family, curve.label, measure.name
            )  # fmt: skip
            data.leave_out(*where, why=error)
            continue
        yield named(table, curve, measure, quantity="value")


def _with_budgets_left_out(data: ReportData, curve: Curve, measure: Measure, table: pd.DataFrame) -> pd.DataFrame:
    """Add gaps for the budgets at which no learning rate is selected, and say so."""
    missing = "; ".join([*data.selection.selected(curve, measure)[1], *filter(None, [table["missing"].iloc[0]])])
    budgets = data.selection.candidates(curve, measure)["budget"].unique()
    gaps = pd.DataFrame({"budget": sorted(set(budgets) - set(table["budget"])), "gap": True})
    table = pd.concat([table, gaps], ignore_index=True).sort_values("budget") if len(gaps) else table
    return table.assign(missing=missing)


def points(long: pd.DataFrame, measure: Measure, quantity: str) -> pd.DataFrame:
    """Return `summarise` with a row for every budget, ``gap`` where there is no value, in the metric's own direction."""
    every = pd.DataFrame({"budget": sorted(long["budget"].unique())})
    table = summarise(long)
    if quantity == "value" and measure.higher_is_better:
        low, high = -table["high"], -table["low"]
        table = table.assign(mean=-table["mean"], low=low, high=high, step=-table["step"])
    if quantity == "value" and measure.scale == "nats":
        table = perplexity(table)
    missing = table["missing"].iloc[0]
    table = every.merge(table, on="budget", how="left")
    return table.assign(missing=missing, gap=table["mean"].isna())


def in_metric_direction(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return differences of oriented scores in the metric's own direction; ``worse`` is true where the later budget is."""
    worse = table["effect"] > 0
    if measure.higher_is_better:
        means = [c for c in ("mean_before", "mean_after", "effect", "relative") if c in table.columns]
        table = table.assign(**{c: -table[c] for c in means}, low=-table["high"], high=-table["low"])
    return table.assign(worse=worse)


def named(frame: pd.DataFrame, curve: Curve, measure: Measure, **more: Any) -> pd.DataFrame:
    """Put the columns that name a curve before the others."""
    about = {
        "family": curve.family,
        "variant": curve.variant,
        "line": curve.label,
        "kind": curve.category,
        "axis": curve.axis.field if curve.axis else "",
        "strength": np.nan if curve.strength is None else curve.strength,
        "tuned": curve.tuned,
        "endpoint": measure.name,
        "metric": measure.metric,
        **more,
    }
    result = frame.copy()
    for place, (column, value) in enumerate(about.items()):
        result.insert(place, column, value)
    return result
