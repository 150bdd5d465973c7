"""Call every section on a study's frames; the result is what figures and page are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.curves import curves
from overtrain.report.data import ReportData
from overtrain.report.measures import measures, with_biased_win_rates
from overtrain.report.points import curve_points
from overtrain.report.scores import StudyScores
from overtrain.report.sections import all_sections
from overtrain.report.selection import SelectedValues
from overtrain.results.record import StudyRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from overtrain.report.measures import Measure
    from overtrain.report.section import Section
    from overtrain.results.judged import JudgedRecord

__all__ = ["assemble"]


def assemble(
    frame: pd.DataFrame,
    documents: pd.DataFrame,
    study: StudyRecord | None,
    *,
    judged: JudgedRecord | None = None,
    versions: Mapping[str, str] | None = None,
    sections: Sequence[Section] | None = None,
    with_published: bool = False,
) -> ReportData:
    """Compute everything that the report shows.

    Args:
        frame: the tidy frame of ``overtrain.results.frame.load_runs``.
        documents: the scores per document; without rows, standard errors cover seeds alone and say so.
        study: its record; without it no primary comparison, and selection by ``validation_loss``.
        judged: the judge, the references and the win rates; None where nothing was judged.
        versions: of the libraries that the cells were evaluated with.
        sections: of the page; those of `overtrain.report.sections` by default.
        with_published: whether the page puts the paper's own statements beside the study's.
    """
    about = study or StudyRecord(name=str(frame["study"].iloc[0]))
    on_curves = _on_curves(frame)
    scores = StudyScores(on_curves, documents)
    fixed = curves(on_curves, about)
    selection = SelectedValues(scores, fixed, about.select)
    found = with_biased_win_rates(measures(on_curves, scores.scored), about.select)
    data = ReportData(
        study=about,
        results=frame,
        scores=scores,
        curves=fixed,
        selection=selection,
        measures=found,
        judged=judged,
        versions=versions or {},
        with_published=with_published,
    )
    parts = all_sections() if sections is None else sections
    # Where win rates select, they are a measure of their own.
    for measure in [*([] if selection.how else [selection.measure]), *found]:
        _measure(data, parts, measure)
        data.forget()
    for section in parts:
        data.frames.update(section.compute(data))
    data.notes += [reason for section in parts for reason in section.missing(data)]
    data.notes = list(dict.fromkeys(data.notes))
    return data


def _measure(data: ReportData, sections: Sequence[Section], measure: Measure) -> None:
    """Compute everything about one measure; its scores per document are held in memory once."""
    for points in curve_points(data, measure):
        data.add("curves", points)
    for section in sections:
        if section.reads_selection or not measure.selects:
            for name, frame in section.compute_measure(data, measure):
                data.add(name, frame)


def _on_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of cells that are on a curve: all but those of a reference that was trained for its answers alone."""
    kept = frame[~frame["reference_only"]] if "reference_only" in frame.columns else frame
    return kept.reset_index(drop=True)
