"""From frames to the long form: against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from model_wrappers.modifications.registry import registry
from overtrain.report.curves import curves, tuned_curves
from overtrain.report.measures import main_measures, measures
from overtrain.report.scores import StudyScores
from overtrain.results.record import StudyRecord


def hand_made(*, with_missing: bool = False):
    """Two budgets, base and one noise scale with two seeds, two benchmarks of two and four documents."""
    rows, documents = [], []
    for budget in (100, 200):
        for variant, gamma, seed in (("base", None, None), ("n", 0.1, 0), ("n", 0.1, 1)):
            cell = f"{budget}-{variant}-{seed}"
            about = {"study": "s", "cell_id": cell, "weights_id": cell, "status": "done", "checkpoint": f"c{budget}"}
            about |= {
                "family": "f",
                "run": "f",
                "tokens": budget,
                "checkpoint_learning_rate": np.nan,
                "variant": variant,
            }
            about |= {"modification": "gaussian" if gamma else "base", "seed": seed, "gamma": gamma, "init_std": "auto"}
            lost = with_missing and cell == "200-n-1"
            for task, values in (("a", [1.0, 0.0]), ("b", [1.0, 1.0, 1.0, 0.0])):
                score = np.nan if lost else float(np.mean(values))
                rows.append(about | {"task": task, "metric": "acc", "value": score, "stderr": 0.1, "n_documents": len(values)}
                            | {"higher_is_better": True, "status": "failed" if lost else "done"})  # fmt: skip
                rows.append(rows[-1] | {"task": "group", "n_documents": None})
                if not lost:
                    frame = {"cell_id": cell, "task": task, "metric": "acc", "document": range(len(values))}
                    documents.append(pd.DataFrame({**frame, "value": values, "weight": 1.0}))
    frame = pd.DataFrame(rows).astype({"seed": "Int64", "n_documents": "Int64", "gamma": float})
    return frame.drop_duplicates(["cell_id", "task", "metric"]), pd.concat(documents, ignore_index=True)


def test_groups_of_tasks_are_not_benchmarks():
    frame, documents = hand_made()
    scores = StudyScores(frame, documents)
    found = measures(frame, scores.scored)
    assert [(e.name, e.metric, e.tasks) for e in found] == [
        ("average of 2 benchmarks", "acc", ("a", "b")), ("a", "acc", ("a",)), ("b", "acc", ("b",)),
    ]  # fmt: skip
    assert [e.name for e in main_measures(found)] == ["average of 2 benchmarks"]


def test_an_average_weighs_tasks_equally_and_is_oriented():
    frame, documents = hand_made()
    scores = StudyScores(frame, documents)
    average = measures(frame, scores.scored)[0]
    base, noise = curves(frame, StudyRecord(name="s"))
    assert (base.category, base.variant, base.axis) == ("base", "base", None)
    assert (noise.category, noise.variant, noise.strength) == ("noise", "n", 0.1)
    assert noise.axis.field == registry()["gaussian"].axes[0].field
    long = scores.long(noise, average)
    cells = long.assign(t=long["y"] * long["weight"]).groupby(["budget", "seed"])[["t", "weight"]].sum()
    assert np.allclose(cells["t"] / cells["weight"], -(0.5 + 0.75) / 2)
    # Base and modified name their documents alike, so that they can be paired; tasks do not share documents.
    assert set(long["document"]) == set(scores.long(base, average)["document"])
    assert long["document"].nunique() == 6
    assert scores.tasks(noise, average)["document"].nunique() == 6


def test_a_failed_cell_stays_a_missing_row():
    frame, documents = hand_made(with_missing=True)
    scores = StudyScores(frame, documents)
    average, single, _ = measures(frame, scores.scored)
    noise = curves(frame, StudyRecord(name="s"))[1]
    for measure in (average, single):
        long = scores.long(noise, measure)
        lost = long[(long["budget"] == 200) & (long["seed"] == 1)]
        assert len(lost) == 1
        assert lost["y"].isna().all()
        assert long["y"].notna().sum() == 3 * (6 if measure is average else 2)


def test_a_field_that_varies_beside_the_axis_makes_curves_of_its_own(make_study):
    frame, _ = make_study("u", gammas=(), tasks=(), documents=2)
    other = frame[frame["variant"] == "tuning"].assign(lora_rank=8.0)
    both = pd.concat([frame.assign(lora_rank=np.where(frame["variant"] == "tuning", 4.0, np.nan)), other])
    fixed = curves(both, StudyRecord(name="s"))
    found = tuned_curves(fixed)
    assert [curve.settings for curve in found] == [(("lora_rank", "4.0"),), (("lora_rank", "8.0"),)]
    assert [sum(c.settings == tuned.settings and not c.base for c in fixed) for tuned in found] == [3, 3]
    assert found[0].label == "tuning, lora rank 4.0, tuned learning rate"


def test_cells_of_documents_that_the_frame_does_not_know_are_ignored():
    frame, documents = hand_made()
    strange = documents.assign(cell_id="elsewhere", value=99.0)
    scores = StudyScores(frame, pd.concat([documents, strange]).astype({"cell_id": "category"}))
    average = measures(frame, scores.scored)[0]
    assert scores.long(curves(frame, StudyRecord(name="s"))[0], average)["y"].abs().max() <= 1.5
