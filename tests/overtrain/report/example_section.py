"""An example of a section: the spread over seeds at each budget, with a table, a figure, a sentence, a reason for absence.

`test_sections.py` drops this file into ``overtrain/report/sections/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.drawing import Drawing, finish, grid, token_axis
from overtrain.report.points import named
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure


class SeedSpread(Section):
    """The standard deviation over seeds of every curve at fixed settings, on texts."""

    key = "seed_spread"
    title = "Spread over seeds"
    order = 115
    computes = ("seed_spread",)

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield one row per curve and budget: ``sd``."""
        if measure.kind != "text":
            return
        for curve in data.curves:
            if not curve.base:
                long = data.long(curve, measure).dropna(subset=["y"])
                cells = long.groupby(["budget", "seed"])["y"].mean()
                yield "seed_spread", named(cells.groupby("budget").std().reset_index(name="sd"), curve, measure)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that nothing has a seed."""
        if "seed_spread" not in data.frames:
            yield "The spread over seeds needs modified models; the study has none."

    def sentences(self, data: ReportData) -> Iterator[str]:
        """Yield the largest spread."""
        table = data.frame("seed_spread")
        if len(table):
            row = table.loc[table["sd"].idxmax()]
            yield f"Seeds differ most for {row['line']}: standard deviation {row['sd']:.3g}."

    def figures(self, data: ReportData) -> Iterator[Drawing]:
        """Yield one figure with all curves."""
        table = data.frame("seed_spread")
        if len(table):
            figure, (axes,) = grid(1)
            handles = {
                line: axes.plot(part["budget"], part["sd"])[0] for line, part in table.groupby(["line"], sort=True)
            }
            token_axis(axes, table["budget"])
            finish(figure, {str(line): handle for (line,), handle in handles.items()})
            yield Drawing("seed-spread", "Spread over seeds", "By budget.", "Spread against tokens.", figure)

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield the spreads."""
        columns = {"family": "family", "line": "curve", "budget": "tokens", "sd": "sd over seeds"}
        yield table_of("Spread over seeds", data.frame("seed_spread"), columns)
