"""Which benchmark carries the document variance of an average."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.errors import DataError
from overtrain.analysis.shares import variance_shares
from overtrain.report.drawing import Drawing, finish, grid, plain
from overtrain.report.points import named
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Shares"]

_COLUMNS = {
    "family": "family",
    "metric": "metric",
    "task": "benchmark",
    "n_documents": "documents",
    "se": "se of its mean",
    "task_weight": "weight",
    "share": "share of the variance",
}


class Shares(Section):
    """Each benchmark's share of the variance of the average, at the last base checkpoint."""

    key = "shares"
    title = "What the average rests on"
    order = 150
    computes = ("shares",)

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the shares of an average over benchmarks."""
        if not measure.average:
            return
        for base in [curve for curve in data.curves if curve.base]:
            rows = data.scores.tasks(base, measure).dropna(subset=["y"])
            if rows.empty or rows["document"].isna().all():
                continue
            last = rows[rows["budget"] == rows["budget"].max()]
            last = last[last["run"] == last["run"].iloc[0]]
            try:
                yield "shares", named(variance_shares(last), base, measure, budget=int(last["budget"].iloc[0]))
            except DataError as error:
                data.leave_out(base.family, measure.name, "variance shares", why=error)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that nothing is averaged."""
        if not any(m.average for m in data.measures):
            yield "Variance shares need an average over benchmarks; the study has none."

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per family, a panel per metric."""
        table = data.frame("shares")
        if len(table):
            for family, part in table.groupby("family", sort=True):
                yield _draw(part, str(family))

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield the shares."""
        yield table_of("Variance shares", data.frame("shares"), _COLUMNS, folded=True)


def _draw(part: pd.DataFrame, family: str) -> Drawing:
    panels = list(part.groupby("metric", sort=False))
    tasks = max(mine["task"].nunique() for _, mine in panels)
    figure, axes = grid(len(panels), height=1.2 + 0.28 * tasks)
    for axis, (metric, tasks_of) in zip(axes, panels, strict=True):
        mine = tasks_of.sort_values("share")
        axis.barh([plain(t) for t in mine["task"]], 100 * mine["share"], color="#31688e")
        axis.axvline(100 / len(mine), color="0.3", linestyle="--", linewidth=1)
        axis.set_title(plain(str(metric).replace("_", " ")), fontsize="medium")
        axis.set_xlabel("% of the average's variance")
        axis.set_xlim(left=0)
    finish(figure, {}, "Dashed: equal shares; no bars")
    return Drawing(
        name=f"variance-shares-{family}",
        title=f"{family}: variance shares of the average",
        caption="Variance over documents of the unweighted average, by benchmark, at the last base checkpoint. With "
        "equal weights a benchmark of few documents can carry most of it.",
        alt=f"Share of the average's document variance by benchmark, {family}.",
        figure=figure,
    )
