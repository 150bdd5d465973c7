"""Figure 7 from data: how the tuned learning rate moves with tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from overtrain.analysis.optima import optimum_slope, tuned_rates
from overtrain.report.curves import number, tuned_curves
from overtrain.report.drawing import Drawing, finish, grid, log_axis, styles, token_axis
from overtrain.report.points import named
from overtrain.report.scores import SELECTED
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from overtrain.report.curves import Curve
    from overtrain.report.data import ReportData

__all__ = ["Optima"]

_COLUMNS = {
    "family": "family",
    "variant": "variant",
    "run": "run",
    "budget": "tokens",
    SELECTED: "best rate",
    "near_low": "within 1 se, from",
    "near_high": "to",
    "at_edge": "at the grid's edge",
    "optimum": "optimum",
    "optimum_low": "95% from",
    "optimum_high": "95% to",
    "n_seeds": "seeds",
    "n_missing": "cells missing",
}


class Optima(Section):
    """The selection metric over the grid of learning rates, the best rate of every checkpoint, and how it moves."""

    key = "optima"
    title = "Optimal learning rates"
    order = 80
    computes = ("rates", "optima", "slopes")

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the rates, the optima and their slopes, in the selection metric's own direction."""
        measure = data.selection.measure
        direction = -1.0 if measure.higher_is_better else 1.0
        found: dict[str, list[pd.DataFrame]] = {"rates": [], "optima": [], "slopes": []}
        for curve, table in data.selection.metric.items():
            rates, optima = data.selection.rates[curve], tuned_rates(table)
            found["rates"].append(named(rates.assign(mean=direction * rates["mean"]), curve, measure))
            found["optima"].append(
                named(optima.assign(value=direction * optima["value"].astype(float)), curve, measure)
            )
            found["slopes"].append(named(optimum_slope(optima), curve, measure))
        for name, parts in found.items():
            if parts:
                yield name, pd.concat(parts, ignore_index=True)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say where no learning rate is selected, and why."""
        for curve, why in data.selection.reasons.items():
            yield f"{curve.family}, {curve.variant}: {why}."
        if any(curve.selectable for curve in data.curves) and not tuned_curves(data.curves):
            yield "No variant has several learning rates, so nothing is tuned: Figures 6 and 7 are left out."

    def sentences(self, data: ReportData) -> Iterator[str]:
        """Yield how the optimal rate of every variant moves."""
        yield from (_slope(row) for row in data.frame("slopes").to_dict("records"))

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per tuned variant: selection metric over the grid, optimal rate against tokens."""
        optima, rates = data.frame("optima"), data.frame("rates")
        if optima.empty:
            return
        for curve in data.tuned:
            mine = optima[(optima["family"] == curve.family) & (optima["line"] == curve.label)]
            if mine[SELECTED].notna().any():
                grid_of = rates[(rates["family"] == curve.family) & (rates["line"] == curve.label)]
                yield _draw(mine, grid_of, curve, styles([curve])[curve.label])

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield the best rate of every checkpoint."""
        yield table_of(
            "Tuned learning rates",
            data.frame("optima"),
            _COLUMNS,
            "The optimum is the minimum of the parabola through the best rate and its neighbours. Its interval assumes no more "
            "than that the loss is convex in the logarithm of the rate; an end is missing where the grid does not bound it.",
        )


def _draw(optima: pd.DataFrame, rates: pd.DataFrame, curve: Curve, style: dict[str, Any]) -> Drawing:
    figure, (left, right) = grid(2, columns=2, width=4.6, height=3.4)
    name = curve.axis.label if curve.axis else ""
    budgets = sorted(set(rates["budget"]))
    shade = [str(0.75 * (1 - place / max(len(budgets) - 1, 1))) for place in range(len(budgets))]
    for budget, colour in zip(budgets, shade, strict=True):
        for _, one_run in rates[rates["budget"] == budget].groupby("run", sort=True):
            run = one_run.sort_values(SELECTED)
            left.plot(run[SELECTED], run["mean"], color=colour, linewidth=1)
            best = run[run["best"]]
            left.plot(best[SELECTED], best["mean"], color=style["color"], marker="o", linestyle="none", markersize=4)
    left.set(xscale="log", xlabel=f"{name} (log scale)", ylabel=str(rates["metric"].iloc[0]).replace("_", " "))
    left.set_title("Light to dark: fewer to more tokens", fontsize="medium")
    left.grid(visible=True, alpha=0.3)
    handles = _rates(right, optima, style)
    token_axis(right, budgets)
    right.set(yscale="log", ylabel=f"{name} (log scale)")
    log_axis(right.yaxis)
    _rate_ticks(right, sorted(set(rates[SELECTED])))
    right.set_title("Best rate of each checkpoint", fontsize="medium")
    finish(
        figure,
        handles,
        "Grey bars: rates within one standard error of the best; coloured bars: 95% interval of the optimum",
    )
    return Drawing(
        name=f"figure-7-{curve.family}-{curve.variant}",
        title=f"{curve.family}, {curve.variant}: the tuned {name}",
        caption="Selection metric over the grid, and the best rate against tokens. The optimum is that of the parabola through "
        "the best rate and its neighbours; its interval is drawn where the grid bounds it. An open marker lies at the edge of "
        "the grid: the optimum may lie outside.",
        alt=f"Selection metric against {name} at each budget, and the best {name} against tokens, for {curve.variant}.",
        figure=figure,
    )


def _rates(axes: Any, optima: pd.DataFrame, style: dict[str, Any]) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    for _, one_run in optima.groupby("run", sort=True):
        run = one_run.sort_values("budget").dropna(subset=[SELECTED])
        at, rate = run["budget"].to_numpy(float), run[SELECTED].to_numpy(float)
        spread = np.stack([rate - run["near_low"].to_numpy(float), run["near_high"].to_numpy(float) - rate])
        axes.errorbar(at, rate, yerr=spread, fmt="none", ecolor="0.75", elinewidth=5)
        edge = run["at_edge"].astype("boolean").fillna(False).to_numpy(bool)
        (handle,) = axes.plot(at, rate, color="0.3", linewidth=1, marker="s", markersize=6)
        handles["best rate on the grid"] = handle
        if edge.any():
            (handle,) = axes.plot(
                at[edge], rate[edge], "s", markersize=7, markerfacecolor="white", markeredgecolor="0.1"
            )
            handles["at the edge of the grid"] = handle
        found = run.dropna(subset=["optimum"])
        x, y = found["budget"].to_numpy(float) * 1.03, found["optimum"].to_numpy(float)
        bars = np.stack([y - found["optimum_low"].to_numpy(float), found["optimum_high"].to_numpy(float) - y])
        bars = np.where(np.isfinite(bars), np.maximum(bars, 0), 0)
        if len(found):
            look = {"color": style["color"], "marker": "o", "linestyle": "none", "markersize": 5}
            handles["optimum of the parabola"] = axes.errorbar(x, y, yerr=bars, capsize=2, **look)
    return handles


def _rate_ticks(axes: Any, rates: list[float]) -> None:
    from matplotlib.ticker import NullLocator

    kept = rates if len(rates) <= 8 else rates[::2]
    axes.set_yticks(kept, [number(rate) for rate in kept])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(rates[0] / 1.5, rates[-1] * 1.5)


def _slope(row: Mapping[Any, Any]) -> str:
    """Say how the optimal learning rate moves, with the reading of Figure 7."""
    name, count = f"{row['family']}, {row['variant']}", int(row["n_checkpoints"])
    left = f"; {int(row['n_at_edge'])} left out, no optimum inside the grid" if row["n_at_edge"] else ""
    if pd.isna(row["slope"]):
        return f"{name}: {count} checkpoints have an optimum inside the grid{left}; a slope needs three."
    interval = f"95% interval {row['low']:.3g} to {row['high']:.3g}"
    return (
        f"{name}: the optimal rate changes by {row['slope']:+.3g} doublings per doubling of tokens ({interval}; {count} "
        f"checkpoints{left}). Reading of Figure 7: {row['regime']}."
    )
