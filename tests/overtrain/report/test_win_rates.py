"""AlpacaEval in a study's frame and report: joined, selected, drawn, and the reference left out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from judged_folder import TASK, write_judged

from model_wrappers.errors import StoreError
from overtrain.analysis.compare import compare
from overtrain.analysis.long import long_form
from overtrain.report.assemble import assemble
from overtrain.report.build import report
from overtrain.report.page import render
from overtrain.report.scores import SELECTED
from overtrain.report.sections import all_sections
from overtrain.report.sections.benchmarks import Benchmarks
from overtrain.results.frame import load_documents, load_judged, load_runs, load_study

BUDGETS = (1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000)
LEVEL = {1_000_000: 30.0, 2_000_000: 40.0, 4_000_000: 60.0, 8_000_000: 50.0, 16_000_000: 45.0}
INSTRUCTIONS = 60


def middle(entry):
    """The default reference: the middle rate at the last checkpoint, first seed."""
    return entry["tokens"] == BUDGETS[-1] and entry["fields"]["learning_rate"] == 3e-4 and entry["seed"] == 0


def wins(entry, rng):
    """The win rate rises to 4M and falls again; the middle rate, which held-out loss selects, is 6 points better."""
    better = 6.0 * (entry["fields"]["learning_rate"] == 3e-4)
    values = LEVEL[entry["tokens"]] + better + rng.normal(0, 0.5) + rng.normal(0, 8, INSTRUCTIONS)
    return np.clip(values, 0, 100)


def folder(root, make_study, make_run, *, select=None, tasks=(), gammas=(), **options):
    """Return the folder of a synthetic study that was judged."""
    seeds = options.pop("seeds", 3)
    frame, documents = make_study("u", tasks=tasks, gammas=gammas, seeds=seeds, documents=20)
    about = {"tasks": ["text", *tasks, TASK], "select": select} if select else {"tasks": ["text", *tasks, TASK]}
    about["primary"] = {"task": TASK, "metric": "win_rate", "variant": "tuning", "compare": [BUDGETS[2], BUDGETS[4]]}
    make_run(root, frame, documents, study=about)
    write_judged(root, options.pop("wins", wins), reference=options.pop("reference", middle), **options)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory, make_study, make_run):
    """A judged study with the default reference."""
    return folder(tmp_path_factory.mktemp("judged") / "s", make_study, make_run, tasks=("alpha",), gammas=(0.1,))


def assembled(root):
    return assemble(load_runs(root), load_documents(root), load_study(root), judged=load_judged(root))


def page_of(made):
    """The page without its figures, which take most of the time."""
    return render(made, all_sections(), {})


@pytest.fixture(scope="module")
def made(root):
    return assembled(root)


def curve(made, line="tuning, tuned learning rate", name=TASK):
    table = made.frame("curves")
    mine = table[(table["endpoint"] == name) & (table["metric"] == "win_rate") & (table["line"] == line)]
    return mine.set_index("budget")


def test_win_rates_are_rows_and_documents_of_the_study(root):
    frame, documents = load_runs(root), load_documents(root, tasks=[TASK])
    rows = frame[(frame["task"] == TASK) & (frame["metric"] == "win_rate")]
    assert len(rows) == 5 * 3 * 3
    assert rows["reference"].sum() == 1
    assert rows.loc[rows["reference"], ["value", "tokens", "seed"]].iloc[0].tolist() == [50.0, BUDGETS[-1], 0]
    assert set(documents["metric"]) == {"win_rate", "length_difference"}
    means = documents[documents["metric"] == "win_rate"].groupby("cell_id", observed=True)["value"].mean()
    values = rows[~rows["reference"]].set_index("cell_id")["value"]
    assert set(means.index) == set(values.index)
    assert means.to_dict() == pytest.approx(values.to_dict())
    assert not frame.duplicated(["cell_id", "task", "metric"]).any()
    assert load_judged(root).judge.model == "judge-70b"


def test_a_folder_that_was_not_judged_has_no_column_for_it(tmp_path, make_study, make_run):
    frame, documents = make_study("u", seeds=1, budgets=BUDGETS[:2])
    make_run(tmp_path / "s", frame, documents)
    assert {"reference", "reference_only"}.isdisjoint(load_runs(tmp_path / "s").columns)
    assert load_judged(tmp_path / "s") is None


def test_cells_that_are_gone_are_passed_over_and_those_not_judged_have_no_value(tmp_path, make_study, make_run):
    def one_not(entry, rng):
        lost = entry["tokens"] == BUDGETS[0] and entry["seed"] == 1 and entry["fields"]["learning_rate"] == 1e-3
        return None if lost else wins(entry, rng)

    root = folder(tmp_path / "s", make_study, make_run, wins=one_not)
    path = root / "judge" / "scores.json"
    content = json.loads(path.read_text())
    content["cells"]["f" * 64] = next(iter(content["cells"].values()))
    path.write_text(json.dumps(content))
    rows = load_runs(root).query("task == @TASK and metric == 'win_rate'")
    assert len(rows) == 45
    assert rows["value"].isna().sum() == 1
    notes = assembled(root).notes
    assert any(note.startswith("1 cell of AlpacaEval without a win rate") for note in notes)


@pytest.mark.parametrize("damage", ["{", '{"judge": {}, "groups": [], "cells": {"x": 1}}'])
def test_a_damaged_file_says_what_to_do(tmp_path, make_study, make_run, damage):
    root = folder(tmp_path / "s", make_study, make_run)
    path = root / "judge" / "scores.json"
    cell = json.loads((root / "study.json").read_text())["cells"][0]["cell_id"]
    path.write_text(damage.replace('"x"', f'"{cell}"'))
    with pytest.raises(StoreError, match="run `overtrain judge` again"):
        load_runs(root)


def test_documents_that_are_not_of_the_scores_are_refused(tmp_path, make_study, make_run):
    root = folder(tmp_path / "s", make_study, make_run)
    file = next((root / "judge" / "documents").iterdir())
    table = pd.read_parquet(file)
    table.assign(win=table["win"] + 1).to_parquet(file, index=False)
    with pytest.raises(StoreError, match="not of the scores beside it"):
        load_documents(root)
    file.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        load_documents(root)


def test_the_tuned_curve_is_the_mean_of_the_selected_cells_without_the_references_seed(root, made):
    frame = load_runs(root)
    chosen = frame[(frame["task"] == TASK) & (frame["metric"] == "win_rate") & (frame["learning_rate"] == 3e-4)]
    wanted = chosen[chosen["seed"] != 0].groupby("tokens")["value"].mean()
    assert curve(made)["mean"].to_dict() == pytest.approx(wanted.to_dict())
    assert any("tiny, tuning: seed 0 is left out of its win rates" in note for note in made.notes)
    fixed = curve(made, "tuning, learning rate 0.001")
    assert len(fixed) == 5
    assert not fixed["gap"].any()
    verdicts = made.frame("verdicts").query("endpoint == @TASK and tuned")
    assert list(verdicts["verdict"]) == ["U"]
    assert verdicts["n_seeds"].item() == 2
    assert verdicts["sentence"].item().startswith("U: 100 - win rate (%) on overtrain_alpaca_eval after tuning")


def test_two_checkpoints_are_compared_by_instruction_and_seed(root, made):
    rows = made.frame("comparisons")
    row = rows[rows["primary"]].iloc[0]
    runs = load_runs(root).query("learning_rate == 3e-4 and seed != 0")
    long = long_form(runs, load_documents(root), task=TASK, metric="win_rate")
    wanted = compare(long, BUDGETS[2], BUDGETS[4]).iloc[0]
    assert (row["effect"], row["se"]) == (pytest.approx(wanted["effect"]), pytest.approx(wanted["se"]))
    assert row["effect"] < -10
    assert row["worse"]


def test_base_and_noise_have_no_win_rates_and_nothing_says_they_lack_them(made):
    curves = made.frame("curves")
    assert set(curves.loc[curves["endpoint"] == TASK, "variant"]) == {"tuning"}
    assert not any(TASK in note for note in made.notes)


def test_with_one_seed_the_reference_alone_is_left_out(tmp_path, make_study, make_run):
    root = folder(tmp_path / "s", make_study, make_run, seeds=1)
    made = assembled(root)
    fixed = curve(made, "tuning, learning rate 3e-4")
    assert set(fixed.index) == set(BUDGETS[:-1])
    assert set(curve(made, "tuning, learning rate 0.001").index) == set(BUDGETS)
    assert any("the reference alone is left out" in note for note in made.notes)


def test_a_reference_of_its_own_seed_is_on_no_curve_and_nothing_is_left_out(tmp_path, make_study, make_run):
    root = folder(tmp_path / "s", make_study, make_run)
    manifest = json.loads((root / "study.json").read_text())
    old = next(e for e in manifest["cells"] if e.get("answers") and middle(e))
    new = old | {"cell_id": "a" * 64, "key": "b" * 64, "seed": 99, "reference_only": True}
    manifest["cells"].append(new)
    (root / "study.json").write_text(json.dumps(manifest))
    path = root / "judge" / "scores.json"
    content = json.loads(path.read_text())
    content["cells"]["a" * 64] = content["cells"].pop(old["cell_id"])
    content["groups"][0]["reference"] |= {"cell_id": "a" * 64, "seed": 99, "default": False}
    path.write_text(json.dumps(content))
    frame = load_runs(root)
    alone = frame[frame["reference_only"]]
    assert set(alone["task"]) == {TASK}
    assert alone["reference"].all()
    made = assembled(root)
    assert "a" * 64 not in set(made.cells["cell_id"])
    assert made.frame("win_rates")["reference"].sum() == 1
    assert not any("left out of its win rates" in note for note in made.notes)
    assert made.frame("verdicts").query("endpoint == @TASK")["n_seeds"].max() == 3


def test_the_figure_and_the_table_name_the_reference(made, root, tmp_path):
    (drawing,) = [d for d in Benchmarks().figures(made) if d.name.endswith("-primary")]
    titles = [axis.get_title() for axis in drawing.figure.axes]
    assert titles == [TASK, "alpha"]
    panel = drawing.figure.axes[0]
    heights = panel.lines[0].get_ydata()
    assert list(heights) == pytest.approx(curve(made).sort_index()["mean"].tolist())
    assert panel.get_ylabel() == "win rate (%)"
    said = "against the reference of tuning: 16M tokens, learning rate 3e-4, seed 0 (the default"
    assert said in drawing.caption
    page = report(root, tmp_path / "report").read_text()
    assert "judged by judge-70b; both orders of every pair, averaged" in page
    table = pd.read_parquet(tmp_path / "report" / "tables" / "win_rates.parquet")
    assert len(table) == 45
    assert set(table["position_bias"].dropna()) == {1.5}
    assert not table["saturated"].any()
    assert "win rates saturate" not in page


def test_saturated_win_rates_are_warned_of(tmp_path, make_study, make_run):
    def strong(entry, rng):
        return np.full(INSTRUCTIONS, 90.0) if entry["tokens"] == BUDGETS[2] else wins(entry, rng)

    root = folder(tmp_path / "s", make_study, make_run, wins=strong)
    page = page_of(assembled(root))
    assert "win rates saturate. 9 cells outside 20 to 80% (90% to 90%)" in page


CROSS_FIT = {"task": TASK, "metric": "win_rate", "how": "cross_fit"}
REPORTED = {"task": TASK, "metric": "win_rate", "how": "reported"}


def even_odd(entry, rng):
    """Even instructions are won most at 1e-3, odd ones at 1e-4: the luck of a half, in the extreme."""
    rate = entry["fields"]["learning_rate"]
    sign = {1e-4: -1, 3e-4: 0, 1e-3: 1}[rate]
    parity = np.where(np.arange(INSTRUCTIONS) % 2 == 0, 1, -1)
    return 50 + 20 * sign * parity + (rate == 1e-3) + rng.normal(0, 0.1) + rng.normal(0, 0.5, INSTRUCTIONS)


def test_cross_fitting_reports_each_half_at_the_rate_of_the_other(tmp_path, make_study, make_run):
    """Selected on one half, the rates lose on the other: 30%, where the win rate of every rate is about 50%."""
    made = assembled(folder(tmp_path / "s", make_study, make_run, select=CROSS_FIT, wins=even_odd))
    assert curve(made)["mean"].tolist() == pytest.approx([30.0 + 0.5] * 5, abs=0.5)
    rates = made.frame("optima")
    assert set(rates[SELECTED]) == {1e-3}
    assert rates["value"].tolist() == pytest.approx([51.0] * 5, abs=0.5)
    text = made.frame("curves").query("endpoint == 'text' and tuned and quantity == 'value'")
    assert not text["gap"].any()
    assert made.frame("verdicts").query("endpoint == @TASK and tuned")["selection_noise"].item() < 1
    page = page_of(made)
    assert "biased" not in page
    assert "one half of the instructions and reported on the other" in page


def test_out_of_distribution_scores_are_read_at_the_rate_that_wins_most(tmp_path, make_study, make_run):
    """Held-out loss would select 3e-4; on the same cells the win rate selects 1e-3."""
    root = folder(tmp_path / "s", make_study, make_run, select=CROSS_FIT, wins=even_odd)
    made, frame = assembled(root), load_runs(root)
    mine = frame[(frame["task"] == "text") & (frame["learning_rate"] == 1e-3) & (frame["seed"] != 0)]
    wanted = mine.groupby("tokens")["value"].mean().to_dict()
    tuned = made.frame("curves").query("endpoint == 'text' and tuned and quantity == 'value'").set_index("budget")
    assert tuned["mean"].to_dict() == pytest.approx(wanted)
    verdict = made.frame("verdicts").query("endpoint == 'text' and tuned").iloc[0]
    assert verdict["selection_noise"] > 0.2  # another draw of instructions would often select 1e-4
    assert not any("takes the selected rates as given" in note for note in made.notes)


def test_selection_on_what_is_reported_says_biased_wherever_it_is_reported(tmp_path, make_study, make_run):
    root = folder(tmp_path / "s", make_study, make_run, select=REPORTED, wins=even_odd)
    made = assembled(root)
    name = f"{TASK} (biased: selected on what is reported)"
    assert curve(made, name=name)["mean"].tolist() == pytest.approx([51.0] * 5, abs=0.5)
    for table in ("curves", "verdicts", "comparisons"):
        rows = made.frame(table)
        judged = rows[(rows["metric"] == "win_rate") & rows["tuned"]]
        assert len(judged)
        assert set(judged["endpoint"]) == {name}, table
    assert (
        made.frame("verdicts")
        .query("endpoint == @name")["sentence"]
        .item()
        .endswith("Biased: selected on what is reported.")
    )
    assert set(curve(made, "tuning, learning rate 0.001").index) == set(BUDGETS)  # not tuned, not biased
    (drawing,) = Benchmarks().figures(made)  # without an accuracy, beside the text
    assert drawing.figure.axes[0].get_title() == name
    assert "biased" in drawing.caption
    page = page_of(made)
    assert "Primary comparison: overtrain_alpaca_eval (biased: selected on what is reported)" in page


@pytest.mark.parametrize("select", [CROSS_FIT, REPORTED])
def test_selection_by_win_rates_that_are_not_there_says_what_to_run(tmp_path, make_study, make_run, select):
    frame, documents = make_study("u", seeds=2, budgets=BUDGETS[:2])
    make_run(tmp_path / "s", frame, documents, study={"select": select, "tasks": [TASK]})
    notes = assembled(tmp_path / "s").notes
    assert any("no cell has win_rate" in note and "run `overtrain judge`" in note for note in notes)
