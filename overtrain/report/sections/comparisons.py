"""Two checkpoints against each other: the study's primary comparison, and the same budgets on everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.adjust import holm
from overtrain.analysis.compare import compare, compare_all
from overtrain.report.points import in_metric_direction, named
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.curves import Curve
    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Comparisons"]

_COLUMNS = {
    "primary": "primary",
    "family": "family",
    "line": "curve",
    "endpoint": "on",
    "metric": "metric",
    "before": "from",
    "after": "to",
    "effect": "change",
    "low": "95% from",
    "high": "95% to",
    "worse": "worse",
    "p_value": "p",
    "p_holm": "p (Holm)",
    "missing": "missing",
}


class Comparisons(Section):
    """The two budgets of the primary comparison on every measure; all pairs of budgets of the primary curve."""

    key = "comparisons"
    title = "Two checkpoints compared"
    order = 120
    computes = ("comparisons", "pairs")

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the comparison of every curve of the primary variant; ``pairs`` are adjusted by max-T."""
        primary = data.study.primary
        if not primary:
            return
        before, after = primary.compare
        for curve in _compared_curves(data):
            if not data.scores.measured(curve, measure):
                continue
            try:
                long = data.long(curve, measure)
                first = data.is_primary(curve, measure)
                row = in_metric_direction(compare(long, before, after), measure)
                yield "comparisons", named(row, curve, measure, primary=first)
                if first:
                    yield "pairs", named(in_metric_direction(compare_all(long), measure), curve, measure)
            except DataError as error:
                data.leave_out(curve.family, curve.label, measure.name, f"{before} against {after} tokens", why=error)

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Adjust all comparisons but the primary one by Holm."""
        table = data.frame("comparisons")
        if len(table):
            primary, others = table[table["primary"]], table[~table["primary"]]
            adjusted = holm(others) if len(others) else others
            yield "comparisons", pd.concat([primary, adjusted], ignore_index=True)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that the study names no primary comparison."""
        if data.study.primary is None:
            yield "The study names no primary comparison, so none is reported; name one under primary."

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield the comparisons."""
        yield table_of(
            "Two checkpoints compared",
            data.frame("comparisons"),
            _COLUMNS,
            "Paired by document, in the metric's own direction. Only the primary comparison was named before the study ran; "
            "the p-values of the others are adjusted by Holm.",
        )


def _compared_curves(data: ReportData) -> list[Curve]:
    """Return the curves of the primary comparison's variant: tuned where learning rates are selected, else every curve.

    A comparison ``at`` one value of the grid is not about tuning.
    """
    primary = data.study.primary
    if primary is None:
        return []
    tuned = [curve for curve in data.tuned if curve.variant == primary.variant and primary.at is None]
    return tuned or [curve for curve in data.curves if curve.variant == primary.variant]
