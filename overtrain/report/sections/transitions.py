"""Documents that a modification turns from right to wrong and from wrong to right, against tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.errors import DataError
from overtrain.analysis.transitions import transitions
from overtrain.report.drawing import Drawing, finish, grid, plain, token_axis
from overtrain.report.points import named
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of
from overtrain_tasks.chance import chance

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Transitions"]

_COLUMNS = {
    "family": "family",
    "line": "curve",
    "endpoint": "benchmark",
    "budget": "tokens",
    "run": "run",
    "seed": "seed",
    "n_documents": "documents",
    "right_to_wrong": "right to wrong",
    "wrong_to_right": "wrong to right",
    "net": "net",
    "forgotten": "forgotten",
    "learned": "learned",
    "p_value": "p (McNemar)",
}
_SIDES = (("right_to_wrong", "right to wrong", "#9c3a00", "v"), ("wrong_to_right", "wrong to right", "#31688e", "^"))


class Transitions(Section):
    """Which answers change between the base and the modified model at every budget, on one accuracy per benchmark."""

    key = "transitions"
    title = "Which answers turn"
    order = 130
    computes = ("transitions",)

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the transitions on a single benchmark, on the accuracy that the study prefers."""
        accuracy = next((m.metric for m in data.measures if m.scale == "share"), None)
        if measure.average or not data.scores.scored or measure.metric != accuracy:
            return
        curves = data.headline_curves()
        bases = {curve.family: curve for curve in curves if curve.base}
        for curve in [x for x in curves if not x.base and x.family in bases]:
            try:
                base, modified = (_accuracies(data.long(x, measure)) for x in (bases[curve.family], curve))
                for budget in sorted(set(modified["budget"]) & set(base["budget"])):
                    sides = [side[side["budget"] == budget] for side in (base, modified)]
                    yield (
                        "transitions",
                        named(transitions(*sides, chance=chance(measure.tasks[0])), curve, measure, budget=budget),
                    )
            except DataError as error:
                data.leave_out(curve.family, curve.label, measure.name, "transitions", why=error)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say what transitions need."""
        if "transitions" not in data.frames:
            yield "Transitions need an accuracy per document of a base and a fine-tuned model; the study has none."

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure per family and curve, with a panel per benchmark."""
        table = data.frame("transitions")
        if table.empty:
            return
        for (family, line), part in table.groupby(["family", "line"], sort=True):
            budgets = sorted(set(data.cells.loc[data.cells["family"] == family, "tokens"]))
            yield _draw(part, str(family), str(line), budgets)

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield one row per curve, benchmark, budget and seed."""
        yield table_of(
            "Right to wrong, wrong to right",
            data.frame("transitions"),
            _COLUMNS,
            "Base against modified model, one row per seed; the p-values are not adjusted. Forgotten and learned are shares of "
            "documents, corrected for guessing; they can be negative.",
            folded=True,
        )


def _accuracies(long: pd.DataFrame) -> pd.DataFrame:
    """Return the scores with the sign of an accuracy: in the long form, lower is better."""
    present = long.dropna(subset=["y"])
    return present.assign(y=-present["y"])


def _draw(table: pd.DataFrame, family: str, line: str, budgets: list[int]) -> Drawing:
    panels = list(table.groupby("endpoint", sort=True))
    figure, axes = grid(len(panels))
    handles = {}
    for place, (axis, (measure, part)) in enumerate(zip(axes, panels, strict=True)):
        for column, label, colour, marker in _SIDES:
            (handle,) = axis.plot(
                part["budget"], 100 * part[column] / part["n_documents"], color=colour, marker=marker, markersize=5,
                linestyle="none", alpha=0.75,
            )  # fmt: skip
            handles[label] = handle
        token_axis(axis, budgets, label=place >= len(panels) - 3)
        axis.set_title(plain(measure), fontsize="medium")
        axis.set_ylim(bottom=0)
        if place % 3 == 0:
            axis.set_ylabel("% of documents")
    finish(figure, handles, "One marker per seed, no bars; a budget without markers has no complete result")
    return Drawing(
        name=f"transitions-{family}-{line}",
        title=f"{family}, {line}: right to wrong, wrong to right",
        caption="Share of documents whose answer the modification turns, seed by seed: forgetting (right to wrong) "
        "apart from what is gained. The net change can be 0 while both are large.",
        alt=f"{len(panels)} panels: share of documents that turn from right to wrong and back, against tokens, for {line}.",
        figure=figure,
    )
