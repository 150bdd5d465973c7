"""What the report leaves out, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from overtrain.common.reasons import grouped
from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData

__all__ = ["Missing"]


class Missing(Section):
    """Gaps of curves, and every reason that another section gave for leaving something out."""

    key = "missing"
    title = "Left out, and why"
    order = 180

    def items(self, data: ReportData) -> Iterator[str]:
        """Yield one entry per reason for which cells have no result, then one per gap and reason of other sections."""
        yield from _cells(data.results)
        yield from _gaps(data.frame("curves"))
        yield from data.notes


def _cells(results: pd.DataFrame) -> Iterator[str]:
    """Yield why cells have no result, one line per reason."""
    if "reason" not in results.columns:
        return
    cells = results[results["reason"] != ""].drop_duplicates("cell_id")
    for status, part in cells.groupby("status", sort=False):
        what = "cannot be evaluated" if status == "missing" else str(status)
        yield from (f"{line}." for line in grouped(what, zip(_labels(part), part["reason"], strict=True)))


def _labels(cells: pd.DataFrame) -> list[str]:
    seeds = ["" if seed is pd.NA else f" seed={seed}" for seed in cells["seed"]]
    return [f"{c} {v}{s}" for c, v, s in zip(cells["checkpoint"], cells["variant"], seeds, strict=True)]


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
