"""Cells that fail say why, once per reason, in the terminal, the status and the report; tables hold no formulas."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from damages import DAMAGES
from overtrain_tiny import write_study

from overtrain.report.build import report
from overtrain.report.files import harmless
from overtrain.results.frame import load_runs
from overtrain.run.status import status, status_table
from overtrain.run.sweep import run


@pytest.mark.faults("study with a checkpoint that cannot be loaded")
@pytest.mark.parametrize("damage", ["half a safetensors", "no tokenizer", "half a config"])
def test_a_bad_checkpoint_costs_its_own_cells_alone_and_says_why_once(damage, make_model, tmp_path):
    bad = shutil.copytree(make_model("olmo", seed=1), tmp_path / "bad")
    DAMAGES[damage][0](bad)
    study = write_study(tmp_path, make_model("olmo", seed=0), bad)
    summary = run(study, tmp_path / "runs")
    assert (summary.cells, summary.done) == (10, 5)
    said = [line for line in summary.sentences() if str(bad) in line]
    assert len(said) == 1, summary.sentences()
    assert said[0].startswith("5 cells ")
    assert "Error: " not in said[0].partition(str(bad))[0], "the class of an error of ours is no news"
    found = status(study, tmp_path / "runs")
    assert sum(str(bad) in line for line in str(status_table(found).caption).splitlines()) == 1
    frame = load_runs(tmp_path / "runs" / "tiny")
    reasons = frame.drop_duplicates("cell_id")["reason"]
    assert (sum(reasons == ""), reasons[reasons != ""].nunique()) == (5, 1)
    page = report(tmp_path / "runs" / "tiny", tmp_path / "report").read_text()
    assert page.count("download or copy" if damage != "no tokenizer" else "copy the tokenizer") == 1


def test_equal_failures_are_one_line():
    from overtrain.run.summary import Summary

    summary = Summary(study="s", root=None, cells=4)
    summary.reasons["failed"] = [(f"cell {n}", "no row") for n in range(5)] + [("other", "no disk")]
    summary.failed = ["x"] * 6
    assert summary.sentences()[:2] == [
        "5 cells failed: no row (cell 0, cell 1, cell 2 and 2 more)",
        "1 cell failed: no disk (other)",
    ]


@pytest.mark.faults("text that a spreadsheet would run")
@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "\r=x"])
def test_no_text_of_a_table_starts_a_formula(text):
    frame = pd.DataFrame({"task": [text, "plain"], text: [1.0, -2.0], "mixed": [-1, "-0.5"]})
    safe = harmless(frame)
    assert list(safe["task"]) == [f"'{text}", "plain"]
    assert list(safe.columns) == ["task", f"'{text}", "mixed"]
    assert list(safe[f"'{text}"]) == [1.0, -2.0]
    assert list(safe["mixed"]) == [-1, "-0.5"]
    assert frame["task"][0] == text
