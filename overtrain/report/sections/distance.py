"""Figure 8: how far fine-tuning moves the weights, against the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.distance import distance_law, distance_points
from overtrain.analysis.verdict import format_tokens
from overtrain.report.drawing import Drawing, finish, grid, plain
from overtrain.report.scores import SELECTED
from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from overtrain.report.data import ReportData

__all__ = ["Distance"]

_MARKERS = "osD^vP*X"


class Distance(Section):
    """The distance between base and modified weights, for every variant whose learning rate varies."""

    key = "distance"
    title = "Distance against learning rate"
    order = 90
    computes = ("distances", "distance_law")

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the distances, and how they depend on learning rate and tokens."""
        points, laws = [], []
        variants = {(x.family, x.variant, x.settings) for x in data.curves if x.axis is not None and x.axis.selected}
        for family, variant, settings in sorted(variants):
            members = [x for x in data.curves if (x.family, x.variant, x.settings) == (family, variant, settings)]
            table = pd.concat([data.scores.training(x, "distance") for x in members], ignore_index=True)
            table = table.rename(columns={"value": "distance"})
            if not table["distance"].notna().any():
                data.leave_out(family, variant, why="no cell recorded its distance from the base, so Figure 8 lacks it")
                continue
            about = {"family": family, "variant": variant, "settings": ", ".join(f"{k} {v}" for k, v in settings)}
            points.append(distance_points(table).assign(**about))
            try:
                laws.append(distance_law(table).assign(**about))
            except DataError as error:
                data.leave_out(family, variant, "distance against learning rate", why=error)
        for name, parts in (("distances", points), ("distance_law", laws)):
            if parts:
                yield name, pd.concat(parts, ignore_index=True)

    def sentences(self, data: ReportData) -> Iterator[str]:
        """Yield the law of every variant in words, where a slope is known."""
        yield from filter(None, (_law(row) for row in data.frame("distance_law").to_dict("records")))

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per family and variant whose cells recorded a distance."""
        table = data.frame("distances")
        if table.empty:
            return
        for (family, variant, settings), part in table.groupby(["family", "variant", "settings"], sort=True):
            yield _draw(part, str(family), str(variant), str(settings))


def _draw(part: pd.DataFrame, family: str, variant: str, settings: str) -> Drawing:
    figure, (axes,) = grid(1, width=6.0, height=4.0)
    handles = {}
    budgets = sorted(set(part["budget"]))
    for place, budget in enumerate(budgets):
        mine = part[part["budget"] == budget].sort_values(SELECTED)
        share = place / max(len(budgets) - 1, 1)
        (handle,) = axes.plot(
            mine[SELECTED], mine["distance"],
            color=(0.27 * (1 - share) + 0.85 * share, 0.0 + 0.55 * share, 0.33 * (1 - share)),
            marker=_MARKERS[place % len(_MARKERS)], markersize=5, linewidth=1,
        )  # fmt: skip
        handles[f"{format_tokens(budget)} tokens"] = handle
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="learning rate (log scale)",
        ylabel="distance from the base (L2, log scale)",
    )
    axes.grid(visible=True, alpha=0.3)
    axes.set_title(plain(f"{variant}, {settings}" if settings else variant), fontsize="medium")
    finish(figure, handles, "Geometric means over seeds; no bars")
    return Drawing(
        name=f"figure-8-{family}-{variant}" + (f"-{settings}" if settings else ""),
        title=f"{family}, {variant}: distance against learning rate",
        caption="Each line is one checkpoint (the paper's Figure 8). Lines on top of each other: the distance does not "
        "depend on the amount of pre-training.",
        alt=f"Distance between base and fine-tuned weights against learning rate, one line per checkpoint, {variant}.",
        figure=figure,
    )


def _law(row: Mapping[Any, Any]) -> str:
    """Say how the distance depends on learning rate and tokens; empty where neither slope is known."""
    parts = []
    if pd.notna(row["rate_slope"]):
        interval = f"95% interval {row['rate_low']:.3g} to {row['rate_high']:.3g}"
        holds = "holds" if row["proportional"] else "does not hold"
        parts.append(
            f"grows as the rate to the power {row['rate_slope']:.3g} ({interval}, which {holds} 1, proportionality)"
        )
    if pd.notna(row["tokens_slope"]):
        interval = f"95% interval {row['tokens_low']:.3g} to {row['tokens_high']:.3g}"
        holds = "holds" if row["independent"] else "does not hold"
        change = f"changes by {row['tokens_slope']:+.3g} in its logarithm per doubling of tokens"
        parts.append(f"{change} ({interval}, which {holds} 0, independence)")
    return f"{row['family']}, {row['variant']}: the distance {' and '.join(parts)}." if parts else ""
