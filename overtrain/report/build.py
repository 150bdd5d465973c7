"""From frames, or from a study's folder, to the report's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from model_wrappers.files import write_whole
from overtrain.report.assemble import assemble
from overtrain.report.files import FORMATS, clear, remember, save_figures, save_tables
from overtrain.report.page import render
from overtrain.report.scores import SELECTED
from overtrain.report.sections import all_sections

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from overtrain.report.data import ReportData
    from overtrain.report.section import Section
    from overtrain.results.judged import JudgedRecord
    from overtrain.results.record import StudyRecord

__all__ = ["build", "report", "write"]


def report(run_folder: Path, out: Path | None = None, *, published: bool = False) -> Path:
    """Write the report of a study; return its page.

    Args:
        run_folder: ``runs/<study>``.
        out: where to write; ``<run_folder>/report`` by default.
        published: put the paper's own statements beside ours.

    Raises:
        StoreError: there is no study in the folder, or a file is damaged.
        DataError: the study has no cells.
    """
    from overtrain.results.frame import load_documents, load_judged, load_runs, load_study

    return build(
        load_runs(run_folder),
        load_documents(run_folder),
        out or run_folder / "report",
        study=load_study(run_folder),
        judged=load_judged(run_folder),
        versions=_versions(run_folder),
        published=published,
    )


def _versions(run_folder: Path) -> dict[str, str]:
    """Return the versions that the finished cells were evaluated with; several are named all."""
    from overtrain.results.frame import load_study
    from overtrain.results.store import Store

    store = Store(run_folder)
    found: dict[str, set[str]] = {}
    for cell in load_study(run_folder).cells:
        if cell.cell_id and store.state(cell.cell_id).status == "done":
            about = json.loads(store.read(cell.cell_id, "environment.json"))
            for key, name in (("lm_eval_version", "lm-eval"), ("transformers_version", "transformers")):
                found.setdefault(name, set()).add(str(about.get(key) or "unknown"))
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}


def build(
    frame: pd.DataFrame,
    documents: pd.DataFrame,
    out: Path,
    *,
    study: StudyRecord | None,
    judged: JudgedRecord | None = None,
    versions: Mapping[str, str] | None = None,
    published: bool = False,
    sections: Sequence[Section] | None = None,
) -> Path:
    """Write ``index.html``, ``figures/`` and ``tables/`` under ``out``; return the page.

    Args:
        frame: of `overtrain.results.frame.load_runs`.
        documents: of `overtrain.results.frame.load_documents`.
        out: folder; files of an earlier report there are replaced, others stay.
        study: of `overtrain.results.frame.load_study`.
        judged: of `overtrain.results.frame.load_judged`.
        versions: of the libraries that the cells were evaluated with.
        published: put the paper's own statements beside ours.
        sections: of the page; those of `overtrain.report.sections` by default.

    Raises:
        DataError: the frame has no cells.
    """
    from model_wrappers.errors import DataError

    if frame.empty:
        raise DataError("the study has no cells, so there is nothing to report; run `overtrain sweep FILE` first")
    parts = all_sections() if sections is None else list(sections)
    data = assemble(frame, documents, study, judged=judged, versions=versions, sections=parts, with_published=published)
    del documents
    return write(data, parts, out)


def write(data: ReportData, sections: Sequence[Section], out: Path) -> Path:
    """Draw and write what was computed; return the page."""
    clear(out)
    drawings = [(section.key, drawing) for section in sections for drawing in section.figures(data)]
    saved = save_figures([drawing for _, drawing in drawings], out / "figures")
    names = save_tables(_with_field_names(data), out / "tables")
    files = [f"figures/{name}.{kind}" for _, name, _ in saved for kind in FORMATS]
    files += [f"tables/{name}.{kind}" for name in names for kind in ("csv", "parquet")]
    remember(out, files)
    of_section = {
        section.key: [one for (key, _), one in zip(drawings, saved, strict=True) if key == section.key]
        for section in sections
    }
    page = out / "index.html"
    write_whole(page, render(data, sections, of_section))
    return page


def _with_field_names(data: ReportData) -> dict[str, pd.DataFrame]:
    """Return the frames with the analysis's column `SELECTED` called as the field that the study varies."""
    fields = {curve.axis.field for curve in data.curves if curve.axis is not None and curve.axis.selected}
    names = {SELECTED: fields.pop()} if len(fields) == 1 else {}
    return {name: frame.rename(columns=names) for name, frame in data.frames.items()}
