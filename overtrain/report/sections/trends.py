"""Sensitivity: how much worse a modification makes a checkpoint, and whether that grows with tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.errors import DataError
from overtrain.analysis.curves import sensitivity, trend
from overtrain.report.points import named, points
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.curves import Curve
    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Trends"]

_COLUMNS = {
    "family": "family",
    "line": "curve",
    "endpoint": "on",
    "metric": "metric",
    "quantity": "in",
    "increase": "last minus first",
    "se": "se",
    "statistic": "T up",
    "critical": "critical",
    "direction": "direction",
    "missing": "missing",
}


class Trends(Section):
    """The sensitivity of every curve at fixed settings; it adds its points to the frame ``curves``."""

    key = "trends"
    title = "Sensitivity"
    order = 110
    computes = ("curves", "trends")

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the points and the trend of modified minus base, paired by document, on a main measure."""
        if measure not in data.main or not measure.outside:
            return
        bases = {curve.family: curve for curve in data.curves if curve.base}
        for curve in data.curves_on(measure):
            if curve.base or curve.tuned:
                continue
            if curve.family in bases:
                yield from _sensitivity(data, curve, bases[curve.family], measure)
            else:
                data.leave_out(curve.family, curve.label, why="no base cells, so no sensitivity and no base curve")

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield the tests."""
        yield table_of(
            "Does sensitivity grow with tokens?",
            data.frame("trends"),
            _COLUMNS,
            "A max-T trend test of the Williams type on the order of budgets, each direction at 5%.",
        )


def _sensitivity(data: ReportData, curve: Curve, base: Curve, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
    wanted = [("sensitivity", "loss")]
    wanted += [("sensitivity_perplexity", "perplexity")] if measure.scale == "nats" else []
    try:
        modified = data.long(curve, measure)
    except DataError as error:
        data.leave_out(curve.family, curve.label, measure.name, why=error)
        return
    unmodified = data.long(base, measure)
    for quantity, scale in wanted:
        try:
            difference = sensitivity(modified, unmodified, scale)  # type: ignore[arg-type]
            yield "curves", named(points(difference, measure, quantity), curve, measure, quantity=quantity)
            yield "trends", named(trend(difference), curve, measure, quantity=quantity)
        except DataError as error:
            data.leave_out(curve.family, curve.label, measure.name, "sensitivity", why=error)
