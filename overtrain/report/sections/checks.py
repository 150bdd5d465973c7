"""Checks: how much neighbouring checkpoints differ, and whether two halves of the seeds agree."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from model_wrappers.errors import DataError
from overtrain.analysis.checks import halves, sham
from overtrain.analysis.jitter import jitter
from overtrain.report.points import named
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Checks"]

_JITTER = {
    "family": "family",
    "line": "curve",
    "endpoint": "on",
    "first": "first",
    "last": "last",
    "n_budgets": "checkpoints",
    "sd": "sd",
    "sd_expected": "sd expected",
    "sd_jitter": "sd of jitter",
}
_HALVES = {
    "family": "family",
    "line": "curve",
    "endpoint": "on",
    "statistic": "statistic",
    "critical": "critical",
    "passed": "passed",
    "n_first": "seeds",
    "n_second": "against",
}
_SHAM = {
    "family": "family",
    "line": "curve",
    "endpoint": "on",
    "budget": "tokens",
    "mean": "change",
    "low": "95% from",
    "high": "95% to",
    "passed": "passed",
    "missing": "missing",
}


class Checks(Section):
    """Jitter and A/A checks on the study's first measure."""

    key = "checks"
    title = "Checks"
    order = 160
    computes = ("jitter", "halves", "sham")

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield ``jitter`` (neighbouring checkpoints), ``halves`` (of the seeds) and ``sham`` of curves at fixed settings.

        A curve of strength 0 modifies nothing: its sensitivity (``sham``) must be 0 at every budget.
        """
        if measure != data.measures[0]:
            return
        bases = {curve.family: curve for curve in data.curves if curve.base}
        for curve in data.curves:
            if not data.scores.measured(curve, measure):
                continue
            with suppress(DataError):  # a curve without results: said where the curve is
                yield "jitter", named(jitter(data.long(curve, measure)), curve, measure)
            with suppress(DataError):  # too few seeds
                if not curve.base:
                    yield "halves", named(halves(data.long(curve, measure)), curve, measure)
            with suppress(DataError):
                if curve.strength == 0 and curve.family in bases:
                    table = sham(data.long(curve, measure), data.long(bases[curve.family], measure))
                    yield "sham", named(table, curve, measure)

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that no two checkpoints are neighbours."""
        if "jitter" not in data.frames:
            yield "No two checkpoints lie within 2% of each other's tokens, so jitter cannot be measured."

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield both checks."""
        yield table_of(
            "Jitter of neighbouring checkpoints",
            data.frame("jitter"),
            _JITTER,
            "What neighbours of one run differ by beyond seeds and documents: a lower bound of what another run would change.",
        )
        yield table_of(
            "Two halves of the seeds",
            data.frame("halves"),
            _HALVES,
            "An A/A check: the halves must agree. One in twenty fails by chance.",
            folded=True,
        )
        yield table_of(
            "A modification of strength 0",
            data.frame("sham"),
            _SHAM,
            "An A/A check: the scores must be those of the base model. One study in twenty fails by chance.",
            folded=True,
        )
