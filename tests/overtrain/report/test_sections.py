"""The contract of a section, held by all of them; and that one file is enough for a new one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overtrain.report import sections
from overtrain.report.assemble import assemble
from overtrain.report.build import build
from overtrain.report.drawing import Drawing
from overtrain.report.sections import all_sections
from overtrain.report.sections.cells import Cells
from overtrain.report.tables import Table

SHARED = {"curves"}
"""Frames that several sections may add to."""


@pytest.fixture(autouse=True)
def _svg_only(monkeypatch):
    """Draw one format: the others take most of the time."""
    monkeypatch.setattr("overtrain.report.files.FORMATS", ("svg",))
    monkeypatch.setattr("overtrain.report.build.FORMATS", ("svg",))


@pytest.fixture(scope="module")
def studies(make_study, make_record, primary):
    """What sections compute from a study with everything, from base models alone, and from cells that all failed."""
    full = make_study("u", budgets=(1_000_000, 4_000_000, 16_000_000), rates=(1e-4, 3e-4), seeds=2, documents=12)
    base = make_study("u", rates=(), gammas=(), tasks=(), documents=4)
    frame, documents = make_study("u", budgets=(1_000_000, 4_000_000), seeds=1, tasks=("alpha",), documents=4)
    failed = frame.assign(status="failed", value=np.nan, stderr=np.nan), documents.iloc[:0]
    named = make_record(primary=primary)
    return {
        "full": assemble(*full, named, with_published=True),
        "base": assemble(*base, None),
        "failed": assemble(*failed, named),
    }


def ids(section):
    return section.key


def test_keys_and_places_are_unique():
    found = all_sections()
    assert len({s.key for s in found}) == len({s.order for s in found}) == len({s.title for s in found}) == len(found)
    owners = [name for s in found for name in s.computes if name not in SHARED]
    assert len(set(owners)) == len(owners)


@pytest.mark.parametrize("section", all_sections(), ids=ids)
def test_a_section_keeps_its_contract(section, studies):
    assert type(section).__doc__
    for name, data in studies.items():
        measures = [data.selection.measure] * section.reads_selection + data.measures
        frames = [pair for measure in measures for pair in section.compute_measure(data, measure)]
        frames += section.compute(data)
        assert {frame_name for frame_name, _ in frames} <= set(section.computes), name
        assert all(isinstance(frame, pd.DataFrame) for _, frame in frames)
        for hook in (section.missing, section.effects, section.sentences, section.items):
            said = list(hook(data))
            assert all(isinstance(sentence, str) and sentence.strip().endswith(".") for sentence in said), said
        tables, drawings = list(section.tables(data)), list(section.figures(data))
        for table in tables:
            assert isinstance(table, Table)
            assert all(len(row) == len(table.head) for row in table.rows)
            assert all(isinstance(value, str) for row in table.rows for value in row)
        for drawing in drawings:
            assert isinstance(drawing, Drawing)
            assert all((drawing.name, drawing.title, drawing.caption, drawing.alt))
        assert set(section.files(data)) <= set(data.frames)


def test_what_a_section_computes_is_what_the_report_holds(studies):
    known = {name for section in all_sections() for name in section.computes} | SHARED
    for data in studies.values():
        assert set(data.frames) <= known
    assert {"verdicts", "trends", "comparisons", "transitions", "optima", "near", "shares"} <= set(
        studies["full"].frames
    )


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example's file lies in a folder of sections."""
    folder = tmp_path / "more"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("example_section.py"), folder / "seed_spread.py")
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(folder)])
    yield "seed_spread"
    sys.modules.pop(f"{sections.__name__}.seed_spread", None)


def test_one_file_adds_a_statistic_with_table_figure_and_sentence(example, make_study, tmp_path):
    budgets = (1_000_000, 4_000_000, 16_000_000)
    frame, documents = make_study("u", budgets=budgets, rates=(), gammas=(0.1,), tasks=(), documents=6)
    text = build(frame, documents, tmp_path / "report", study=None).read_text("utf-8")
    table = pd.read_csv(tmp_path / "report" / "tables" / f"{example}.csv")
    mine = frame[(frame["task"] == "text") & (frame["variant"] == "noise")]
    wanted = mine.groupby("tokens")["value"].std()
    assert table.set_index("budget")["sd"].to_dict() == pytest.approx(wanted.to_dict())
    assert f'<section id="{example}">' in text
    assert f"standard deviation {wanted.max():.3g}." in text
    assert all(f"<td>{value:.4g}</td>" in text for value in wanted)
    assert (tmp_path / "report" / "figures" / "seed-spread.svg").is_file()
    assert text.index('id="trends"') < text.index(f'id="{example}"') < text.index('id="missing"')


def test_one_file_says_why_its_statistic_is_left_out(example, make_study):
    frame, documents = make_study("u", rates=(), gammas=(), tasks=(), documents=4)
    data = assemble(frame, documents, None)
    assert example in [section.key for section in all_sections()]
    assert "The spread over seeds needs modified models; the study has none." in data.notes


def test_the_table_of_cells_says_how_many_scores_stand_in_the_file_alone(make_study):
    tasks = tuple(f"task-{place}" for place in range(8))
    frame, documents = make_study("u", budgets=(1_000_000,), rates=(), gammas=(), tasks=tasks, documents=2)
    data = assemble(frame, documents, None)
    (table,) = Cells().tables(data)
    shown = [head for head in table.head if ": " in head]
    there = [column for column in data.frame("cells").columns if ": " in column]
    assert f"{len(there) - len(shown)} further scores per cell are in the file." in table.note
    assert len(there) == 1 + 2 * len(tasks)
