"""Figure 7 from data: how the tuned learning rate moves with tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from overtrain.report.figures.style import Drawing, finish, grid, log_axis, styles, token_axis
from overtrain.report.view import number

if TYPE_CHECKING:
    import pandas as pd

    from overtrain.report.assemble import Assembled

__all__ = ["draw"]


def draw(made: Assembled) -> list[Drawing]:
    """Return one figure per family and tuned variant: selection metric over the grid, optimal rate against tokens."""
    optima, rates = made.frame("optima"), made.frame("rates")
    if optima.empty:
        return []
    drawings = []
    for line in made.tuned:
        mine = optima[(optima["family"] == line.family) & (optima["line"] == line.label)]
        if mine["learning_rate"].notna().any():
            grid_of = rates[(rates["family"] == line.family) & (rates["line"] == line.label)]
            drawings.append(_draw(mine, grid_of, line.family, line.variant, styles([line])[line.label]))
    return drawings


def _draw(optima: pd.DataFrame, rates: pd.DataFrame, family: str, variant: str, style: dict[str, Any]) -> Drawing:
    figure, (left, right) = grid(2, columns=2, width=4.6, height=3.4)
    budgets = sorted(set(rates["budget"]))
    shade = [str(0.75 * (1 - place / max(len(budgets) - 1, 1))) for place in range(len(budgets))]
    for budget, colour in zip(budgets, shade, strict=True):
        for _, one_run in rates[rates["budget"] == budget].groupby("run", sort=True):
            run = one_run.sort_values("learning_rate")
            left.plot(run["learning_rate"], run["mean"], color=colour, linewidth=1)
            best = run[run["best"]]
            left.plot(
                best["learning_rate"], best["mean"], color=style["color"], marker="o", linestyle="none", markersize=4
            )
    left.set(xscale="log", xlabel="learning rate (log scale)", ylabel=str(rates["metric"].iloc[0]).replace("_", " "))
    left.set_title("Light to dark: fewer to more tokens", fontsize="medium")
    left.grid(visible=True, alpha=0.3)
    handles = _rates(right, optima, style)
    token_axis(right, budgets)
    right.set(yscale="log", ylabel="learning rate (log scale)")
    log_axis(right.yaxis)
    _rate_ticks(right, sorted(set(rates["learning_rate"])))
    right.set_title("Best rate of each checkpoint", fontsize="medium")
    finish(
        figure,
        handles,
        "Grey bars: rates within one standard error of the best; coloured bars: 95% interval of the optimum",
    )
    return Drawing(
        name=f"figure-7-{family}-{variant}",
        title=f"{family}, {variant}: the tuned learning rate",
        caption="Selection metric over the grid, and the best rate against tokens. The optimum is that of a parabola in the "
        "logarithm of the rate; its interval is drawn where the data bound it. An open marker lies at the edge of the grid: "
        "the optimum may lie outside.",
        alt=f"Selection metric against learning rate at each budget, and the best learning rate against tokens, for {variant}.",
        figure=figure,
        section="optima",
    )


def _rates(axes: Any, optima: pd.DataFrame, style: dict[str, Any]) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    for _, one_run in optima.groupby("run", sort=True):
        run = one_run.sort_values("budget").dropna(subset=["learning_rate"])
        at, rate = run["budget"].to_numpy(float), run["learning_rate"].to_numpy(float)
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
