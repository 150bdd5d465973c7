"""What a section of the report is: the frames it computes, and its figures, tables and sentences.

A section is one file in ``overtrain/report/sections/`` with one subclass of `Section`. Nothing else has to change: the page,
the files beside it and the contract test find it there.
"""

# ruff: noqa: ARG002  (what a section does not have is empty, whatever the arguments)
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from overtrain.report.data import ReportData
    from overtrain.report.drawing import Drawing
    from overtrain.report.measures import Measure
    from overtrain.report.tables import Table

__all__ = ["Section"]


class Section:
    """One part of the page. A subclass overrides what it has; a section without anything to show is not on the page.

    Class attributes:
        key: its anchor on the page, unique.
        title: its heading.
        order: where it stands; sections are sorted by this number.
        computes: the names of the frames that it adds. Each is written to ``tables/`` as CSV and Parquet.
        reads_selection: whether `compute_measure` is also called for the metric that selects the learning rate.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    order: ClassVar[int]
    computes: ClassVar[tuple[str, ...]] = ()
    reads_selection: ClassVar[bool] = False

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterable[tuple[str, pd.DataFrame]]:
        """Return frames by name, computed from the scores on one measure; they are appended to those of other measures.

        This is called once per measure, because the scores per document of one measure alone are held in memory.
        A curve that cannot be computed is recorded by `ReportData.leave_out`.
        """
        return ()

    def compute(self, data: ReportData) -> Iterable[tuple[str, pd.DataFrame]]:
        """Return frames by name, computed once after all measures; each replaces the frame of its name."""
        return ()

    def missing(self, data: ReportData) -> Iterable[str]:
        """Return sentences that say why the section, or a part of it, is left out."""
        return ()

    def effects(self, data: ReportData) -> Iterable[str]:
        """Return sentences for the list at the top of the page: what the study shows, and what it does not show."""
        return ()

    def sentences(self, data: ReportData) -> Iterable[str]:
        """Return the paragraphs of the section."""
        return ()

    def figures(self, data: ReportData) -> Iterable[Drawing]:
        """Return the figures of the section."""
        return ()

    def tables(self, data: ReportData) -> Iterable[Table]:
        """Return the tables of the section; one without rows is not shown."""
        return ()

    def items(self, data: ReportData) -> Iterable[str]:
        """Return the entries of a list at the section's end."""
        return ()

    def files(self, data: ReportData) -> Iterable[str]:
        """Return the names of frames whose files the section links to."""
        return ()
