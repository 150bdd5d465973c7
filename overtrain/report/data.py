"""What the sections of a report read, and the frames that they compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from overtrain.report.curves import read_without_tuning
from overtrain.report.measures import main_measures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from overtrain.analysis.inflection import CurveTests
    from overtrain.report.axes import Axis
    from overtrain.report.curves import Curve
    from overtrain.report.measures import Measure
    from overtrain.report.scores import StudyScores
    from overtrain.report.selection import SelectedValues
    from overtrain.results.judged import JudgedRecord
    from overtrain.results.record import StudyRecord

__all__ = ["ReportData"]


@dataclass
class ReportData:
    """One study as its report sees it: sections read it and add frames to it.

    Attributes:
        study: its record.
        results: the tidy frame as it was loaded, every cell in it.
        scores: of the cells that are on a curve.
        curves: those at fixed settings, the base models' included.
        selection: what is selected at every checkpoint, and the tuned curves.
        measures: what is measured outside training.
        judged: the judge, the references and the win rates; None where nothing was judged.
        versions: of the libraries that the cells were evaluated with.
        with_published: whether the page puts the paper's own statements beside the study's.
        frames: computed so far, by name; each is written as a table.
        notes: one sentence per thing that was left out, with the reason.
        tests: of the rows of the frame ``verdicts``, in their order.
    """

    study: StudyRecord
    results: pd.DataFrame
    scores: StudyScores
    curves: list[Curve]
    selection: SelectedValues
    measures: list[Measure]
    judged: JudgedRecord | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    with_published: bool = False
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tests: list[CurveTests] = field(default_factory=list)

    @property
    def tuned(self) -> list[Curve]:
        """The curves at the best learning rate of every checkpoint."""
        return self.selection.curves

    @property
    def selected_axes(self) -> list[Axis]:
        """The axes of the study whose values are selected per checkpoint, such as the learning rate."""
        axes = (curve.axis for curve in self.curves if curve.axis is not None and curve.axis.selected)
        return list(dict.fromkeys(axes))

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell of a curve, with its labels, settings and status."""
        return self.scores.cells

    @property
    def main(self) -> list[Measure]:
        """The measures that every curve is read on."""
        return main_measures(self.measures)

    def curves_on(self, measure: Measure) -> Iterator[Curve]:
        """Yield the curves that the report shows on ``measure``: at fixed settings, then tuned.

        A measure that is not a main one is read on the base models, on variants with one setting, and on tuned curves.
        """
        alone = read_without_tuning(self.curves)
        every = not measure.outside or measure in self.main
        for curve in self.curves:
            if (every or curve.base or curve in alone) and self.scores.measured(curve, measure):
                yield curve
        yield from (curve for curve in self.tuned if self.scores.measured(curve, measure))

    def headline_curves(self) -> list[Curve]:
        """Return the curves of Figure 2: the base models, the tuned curves, and those that have nothing to tune."""
        alone = read_without_tuning(self.curves)
        return [curve for curve in self.curves if curve.base or curve in alone] + self.tuned

    def long(self, curve: Curve, measure: Measure) -> pd.DataFrame:
        """Return the scores of a curve in the long form, oriented: lower is better; at the selected values where tuned.

        Raises:
            DataError: the curve has no result.
        """
        if curve.tuned:
            return self.selection.selected(curve, measure)[0]
        return self.selection.fixed(curve) if measure.selects else self.scores.long(curve, measure)

    def forget(self) -> None:
        """Drop the long forms that were kept; call it between measures."""
        self.scores.forget()
        self.selection.forget()

    def frame(self, name: str) -> pd.DataFrame:
        """Return the frame called ``name``, without rows or columns where there is none."""
        return self.frames.get(name, pd.DataFrame())

    def add(self, name: str, frame: pd.DataFrame) -> None:
        """Append ``frame`` to the frame called ``name``."""
        if len(frame):
            old = self.frames.get(name)
            self.frames[name] = frame if old is None else pd.concat([old, frame], ignore_index=True)

    def leave_out(self, *where: object, why: object) -> None:
        """Record that something is left out: where, and why."""
        self.notes.append(f"{', '.join(map(str, where))}: {str(why).rstrip('.')}.")

    def has_curve(self, curve: Curve, measure: Measure) -> bool:
        """Return whether the frame ``curves`` has the values of ``curve`` on ``measure``."""
        table = self.frame("curves")
        if table.empty:
            return False
        wanted = {"family": curve.family, "line": curve.label, "endpoint": measure.name, "metric": measure.metric}
        mine = table["quantity"] == "value"
        for column, value in wanted.items():
            mine &= table[column] == value
        return bool(mine.any())

    def is_primary(self, curve: Curve, measure: Measure) -> bool:
        """Return whether a curve is the one that the primary comparison names; a group's name means its average."""
        primary = self.study.primary
        if primary is None or curve.variant != primary.variant or measure.metric != primary.metric:
            return False
        if primary.at is not None and curve.strength != primary.at:
            return False
        average = primary.task not in measure.tasks and measure.average
        return average or measure.tasks == (primary.task,)
