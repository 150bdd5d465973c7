"""What the report leaves out, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.data import ReportData

__all__ = ["Missing"]


class Missing(Section):
    """Gaps of curves, and every reason that another section gave for leaving something out."""

    key = "missing"
    title = "Left out, and why"
    order = 180

    def items(self, data: ReportData) -> Iterator[str]:
        """Yield one entry per gap and reason."""
        yield from _gaps(data.frame("curves"))
        yield from data.notes


def _gaps(curves: pd.DataFrame) -> list[str]:
    if curves.empty:
        return []
    rows = curves[curves["missing"].fillna("") != ""].drop_duplicates(
        ["family", "line", "endpoint", "metric", "missing"]
    )
    grouped = rows[rows["quantity"] == "value"].groupby(["family", "line", "missing"], sort=False)
    return [
        f"{family}, {line} ({', '.join(dict.fromkeys(part['endpoint'] + ', ' + part['metric']))}): {missing}."
        for (family, line, missing), part in grouped
    ]
