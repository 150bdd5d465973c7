import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import group_average, long_form, oriented
from overtrain.analysis.simulate import simulate_study


@pytest.fixture
def tidy():
    runs = pd.DataFrame(
        {
            "cell_id": ["a", "b", "c"],
            "tokens": [10, 20, 20],
            "run": "r",
            "seed": pd.array([0, 0, 1], dtype="Int64"),
            "task": "t",
            "metric": "acc",
            "value": [0.5, 1.0, np.nan],
            "higher_is_better": True,
            "learning_rate": 1e-3,
        }
    )
    documents = pd.DataFrame(
        {
            "cell_id": ["a", "a", "b", "b"],
            "task": "t",
            "metric": "acc",
            "document": [0, 1, 0, 1],
            "value": [0.0, 1.0, 1.0, 1.0],
            "weight": 1.0,
        }
    )
    return runs, documents


def test_join_with_documents(tidy):
    frame = long_form(*tidy, task="t", metric="acc", keep=["learning_rate"])
    assert len(frame) == 5
    assert frame.loc[frame["budget"] == 10, "y"].tolist() == [0.0, 1.0]
    missing = frame[frame["y"].isna()]
    assert missing[["budget", "seed"]].to_numpy().tolist() == [[20, 1]]
    assert (frame["learning_rate"] == 1e-3).all()
    # seed 1 has no result at either budget
    assert assemble(frame).missing == ("2 missing cells", "seed 1 has no result")


def test_join_without_documents(tidy):
    frame = long_form(tidy[0], task="t", metric="acc")
    assert frame["y"].tolist()[:2] == [0.5, 1.0]
    assert frame["document"].isna().all()
    assert assemble(frame).n_documents == 1


def test_an_unknown_task_is_an_error(tidy):
    with pytest.raises(DataError, match="did you mean 'arc_easy'"):
        long_form(tidy[0].assign(task="arc_easy"), task="arc_esay", metric="acc")


def test_orientation_turns_the_sign(tidy):
    frame = long_form(*tidy, task="t", metric="acc")
    assert oriented(frame, True)["y"].dropna().tolist() == [0.0, -1.0, -1.0, -1.0]
    assert oriented(frame, False) is frame


def test_group_weighs_tasks_equally_whatever_their_documents():
    rng = np.random.default_rng(0)
    small = simulate_study([1.0, 2.0], rng, documents=10).assign(task="copa")
    large = simulate_study([3.0, 5.0], rng, documents=90).assign(task="piqa")
    merged = group_average(pd.concat([small, large], ignore_index=True))
    layout, a, b = assemble(merged), assemble(small), assemble(large)
    np.testing.assert_allclose(layout.cells, (a.cells + b.cells) / 2)
    # strata: a quarter of each task's variance; the factor is D / (D - 1) of 100 documents together
    np.testing.assert_allclose(layout.covariance * 99 / 100, (a.covariance + b.covariance) / 4)
    uneven = assemble(group_average(pd.concat([small, large], ignore_index=True), {"copa": 3, "piqa": 1}))
    np.testing.assert_allclose(uneven.cells, 0.75 * a.cells + 0.25 * b.cells)


def test_a_cell_without_one_of_the_tasks_is_missing_for_the_group():
    rng = np.random.default_rng(1)
    small = simulate_study([1.0, 2.0, 3.0], rng, documents=5, seeds=5).assign(task="copa")
    large = simulate_study([3.0, 5.0, 6.0], rng, documents=5, seeds=5).assign(task="piqa")
    cut = large[(large["seed"] != 2) | (large["budget"] != 10**9)]
    merged = group_average(pd.concat([small, cut], ignore_index=True))
    gap = merged[merged["y"].isna()]
    assert gap[["budget", "seed"]].to_numpy().tolist() == [[10**9, 2]]
    assert assemble(merged).missing == ("1 missing cell", "seed 2 left out: not at every budget")


def test_a_task_without_weight_is_an_error():
    frame = simulate_study([1.0], np.random.default_rng(2), documents=3).assign(task="copa")
    with pytest.raises(DataError, match="'copa' has no positive weight"):
        group_average(frame, {"piqa": 1})
