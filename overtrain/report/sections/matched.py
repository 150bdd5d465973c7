"""Families of checkpoints compared where their unmodified models have the same score."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.matched import matched_base_loss
from overtrain.report.drawing import Drawing, finish, grid, plain
from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData

__all__ = ["Matched"]


class Matched(Section):
    """Families at equal base loss, for every variant that several families have."""

    key = "matched"
    title = "At matched base loss"
    order = 140
    computes = ("matched",)

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the differences of every pair of families."""
        if not _comparable(data):
            return
        found = [
            part
            for (label, name, metric), points in _points(data)
            for part in _pairs(data, str(label), str(name), str(metric), points)
        ]
        if found:
            yield "matched", pd.concat(found, ignore_index=True)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that there is one family only."""
        if not _comparable(data):
            yield "A comparison at matched base loss needs two families of checkpoints; the study has one."

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per pair of families and measure."""
        table = data.frame("matched")
        if table.empty:
            return
        keys = ["reference_family", "other_family", "endpoint", "metric"]
        for (reference, other, measure, metric), part in table.groupby(keys, sort=True):
            yield _draw(part, str(reference), str(other), str(measure), str(metric))


def _comparable(data: ReportData) -> bool:
    return len({curve.family for curve in data.curves}) > 1 and "curves" in data.frames


def _points(data: ReportData) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yield, per curve, measure and metric: ``group`` (family), ``base``, ``value``, ``se``; lower is better."""
    outside = {m.name for m in data.measures if m.outside}
    curves = data.frame("curves")
    curves = curves[(curves["quantity"] == "value") & curves["endpoint"].isin(outside)]
    base = curves[curves["kind"] == "base"].set_index(["family", "endpoint", "metric", "budget"])["mean"]
    higher = {(m.name, m.metric): m.higher_is_better for m in data.measures}
    labels = {curve.label for curve in [*data.curves, *data.tuned] if not curve.base}
    of_curve = curves[curves["line"].isin(labels)].groupby(["line", "endpoint", "metric"])
    for (label, name, metric), part in of_curve:
        direction = -1.0 if higher[str(name), str(metric)] else 1.0
        keys = list(zip(part["family"], part["endpoint"], part["metric"], part["budget"], strict=True))
        points = pd.DataFrame(
            {
                "group": part["family"].to_numpy(),
                "base": direction * base.reindex(keys).to_numpy(),
                "value": direction * part["mean"].to_numpy(float),
                "se": part["se"].to_numpy(float),
            }
        )
        yield (str(label), str(name), str(metric)), points


def _pairs(data: ReportData, label: str, name: str, metric: str, points: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for one, other in combinations(sorted(set(points["group"])), 2):
        try:
            table = matched_base_loss(points, one, other)
        except DataError as error:
            data.leave_out(label, name, f"matched base loss of {one} and {other}", why=error)
            continue
        if table.empty:
            data.leave_out(label, name, why=f"{one} and {other} share no range of base loss; nothing is extrapolated")
            continue
        about = {"line": label, "endpoint": name, "metric": metric, "reference_family": one, "other_family": other}
        yield table.assign(**about)


def _draw(part: pd.DataFrame, reference: str, other: str, measure: str, metric: str) -> Drawing:
    lines = list(part.groupby("line", sort=True))
    figure, axes = grid(len(lines))
    handles = {}
    for axis, (line, mine) in zip(axes, lines, strict=True):
        y = mine["difference"].to_numpy(float)
        bars = np.stack([y - mine["low"].to_numpy(float), mine["high"].to_numpy(float) - y])
        look = {"color": "#31688e", "marker": "o", "markersize": 5}
        bars = np.where(np.isfinite(bars), bars, 0)
        handles[f"{other} minus {reference}"] = axis.errorbar(mine["base"], y, yerr=bars, capsize=2, **look)
        axis.axhline(0, color="0.5", linewidth=0.8)
        axis.grid(visible=True, alpha=0.3)
        axis.set_title(plain(line), fontsize="medium")
        axis.set_xlabel("score of the unmodified models")
    axes[0].set_ylabel("difference (above 0: worse)")
    finish(figure, handles, "Bars: 95% intervals, base losses taken as known")
    return Drawing(
        name=f"matched-{reference}-{other}-{measure}-{metric}",
        title=f"{other} against {reference} at equal base score: {measure}, {metric}",
        caption="Interpolated between checkpoints, nothing extrapolated. Do not read this for text that one family "
        "was pre-trained on and the other was not (C4 is part of some mixtures): the base losses then mean different "
        "things.",
        alt=f"Difference between {other} and {reference} after modification against the base score, {measure}.",
        figure=figure,
    )
