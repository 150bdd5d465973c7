import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import simulate_study


def long(rows):
    frame = pd.DataFrame(rows, columns=["budget", "run", "seed", "document", "y", "weight"])
    return frame.assign(seed=frame["seed"].astype("Int64"))


def test_a_cell_is_a_ratio_of_sums():
    # 2 documents of 1 and 3 tokens: (2 * 1 + 6 * 3) / 4 = 5 and (1 * 1 + 5 * 3) / 4 = 4
    frame = long([(10, "r", 0, 0, 2, 1), (10, "r", 0, 1, 6, 3), (20, "r", 0, 0, 1, 1), (20, "r", 0, 1, 5, 3)])
    layout = assemble(frame)
    assert layout.means.tolist() == [5.0, 4.0]
    # residuals w (y - mean) / mean weight: (2 - 5) / 2 and 3 (6 - 5) / 2; they agree at both budgets
    np.testing.assert_allclose(layout.residuals, [[-1.5, 1.5], [-1.5, 1.5]])
    np.testing.assert_allclose(layout.covariance, 4.5 / 2)
    assert (layout.n_runs, layout.n_seeds, layout.n_documents) == (1, 1, 2)


def test_document_covariance_is_numpys_for_plain_means():
    frame = simulate_study([0, 1, 2], np.random.default_rng(0), seeds=1, documents=40)
    scores = frame.pivot_table(index="budget", columns="document", values="y").to_numpy()
    np.testing.assert_allclose(assemble(frame).covariance, np.cov(scores) / 40, rtol=1e-10)


def test_interaction_is_the_three_way_residual_of_anova():
    frame = simulate_study([0, 1, 2], np.random.default_rng(1), seeds=4, documents=25)
    y = frame["y"].to_numpy().reshape(3, 4, 25)
    means = {axes: y.mean(axis=axes, keepdims=True) for axes in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]}
    left = (
        y - means[(0,)] - means[(1,)] - means[(2,)] + means[(0, 1)] + means[(0, 2)] + means[(1, 2)] - means[(0, 1, 2)]
    )
    variance = (left**2).sum() / (2 * 3 * 24)
    np.testing.assert_allclose(assemble(frame).interaction, variance / (4 * 25))


def test_several_runs_are_the_units():
    frame = simulate_study([0, 1], np.random.default_rng(2), seeds=2, runs=3, documents=5)
    layout = assemble(frame)
    by_hand = frame.pivot_table(index="budget", columns="run", values="y")
    np.testing.assert_allclose(layout.cells, by_hand)
    assert (layout.n_runs, layout.n_seeds, layout.paired) == (3, 2, True)
    assert layout.covers == "covers pre-training runs and seeds and documents"


def test_a_run_name_per_budget_leaves_seeds_paired():
    frame = simulate_study([0, 1], np.random.default_rng(3), documents=5)
    renamed = frame.assign(run="at " + frame["budget"].astype(str))
    layout = assemble(renamed)
    assert layout.paired
    np.testing.assert_allclose(layout.cells, assemble(frame).cells)
    assert layout.n_runs == 1
    assert "not pre-training runs" in layout.covers


def test_seeds_of_their_own_per_budget_are_not_paired():
    frame = simulate_study([0, 1], np.random.default_rng(4), documents=5)
    apart = frame.assign(seed=frame["seed"] + 10 * (frame["budget"] == 2 * 10**9))
    assert not assemble(apart).paired
    np.testing.assert_allclose(assemble(apart).means, assemble(frame).means)


def test_documents_of_their_own_per_budget_have_no_covariance():
    frame = simulate_study([0, 1], np.random.default_rng(5), documents=30)
    apart = frame.assign(document=frame["document"] + frame["budget"])
    layout = assemble(apart)
    assert layout.covariance[0, 1] == 0
    np.testing.assert_allclose(np.diag(layout.covariance), np.diag(assemble(frame).covariance))


@pytest.mark.parametrize("as_row", [True, False])
def test_a_missing_cell_is_told_and_its_seed_left_out(as_row):
    frame = simulate_study([0, 1, 2, 3], np.random.default_rng(6), documents=5, seeds=5)
    gone = (frame["seed"] == 1) & (frame["budget"] == 2 * 10**9)
    cut = frame[~gone]
    if as_row:
        row = frame[gone].head(1).assign(document=None, y=np.nan, weight=np.nan)
        cut = pd.concat([cut, row], ignore_index=True)
    layout = assemble(cut)
    # The budget misses less than half of its seeds: the seed goes.
    assert layout.missing == ("1 missing cell", "seed 1 left out: not at every budget")
    np.testing.assert_allclose(layout.cells, assemble(frame[frame["seed"] != 1]).cells)


def test_a_budget_without_most_seeds_goes():
    frame = simulate_study([0, 1, 2, 3], np.random.default_rng(7), documents=5)
    layout = assemble(frame[(frame["budget"] != 4 * 10**9) | (frame["seed"] == 0)])
    assert layout.budgets == (10**9, 2 * 10**9, 8 * 10**9)
    assert layout.missing == ("2 missing cells", "budget 4000000000 left out: half of its seeds or more are missing")


def test_a_budget_without_any_result_is_named():
    frame = simulate_study([0, 1, 2], np.random.default_rng(8), documents=5)
    frame.loc[frame["budget"] == 2 * 10**9, "y"] = np.nan
    layout = assemble(frame)
    assert layout.budgets == (10**9, 4 * 10**9)
    assert "budget 2000000000 has no result" in layout.missing


def test_documents_that_some_cells_lack_are_left_out_and_told():
    frame = simulate_study([0, 1], np.random.default_rng(9), documents=10)
    cut = frame[(frame["document"] != 3) | (frame["seed"] != 0)]
    layout = assemble(cut)
    assert layout.missing == ("1 of 10 documents left out: not in every cell",)
    np.testing.assert_allclose(layout.cells, assemble(frame[frame["document"] != 3]).cells)


def test_one_score_per_cell():
    frame = simulate_study([0, 1], np.random.default_rng(10), documents=1).assign(document=None)
    layout = assemble(frame)
    assert layout.n_documents == 1
    assert (layout.covariance == 0).all()
    assert layout.residuals is None


def test_refusals():
    frame = simulate_study([0, 1], np.random.default_rng(11), documents=3)
    with pytest.raises(DataError, match="twice in one cell"):
        assemble(pd.concat([frame, frame]))
    with pytest.raises(DataError, match="no column 'weight'"):
        assemble(frame.drop(columns="weight"))
    with pytest.raises(DataError, match="no cell of this curve"):
        assemble(frame.assign(y=np.nan))
    with pytest.raises(DataError, match="no rows"):
        assemble(frame.head(0))
    with pytest.raises(DataError, match="some results have no document"):
        assemble(frame.assign(document=frame["document"].where(frame["seed"] > 0)))


def test_seeds_that_change_nothing_count_as_one():
    """A deterministic training, or rows that fit one batch: equal up to rounding. Documents then carry the comparison."""
    frame = simulate_study([0, 1, 2], np.random.default_rng(0), seeds=1, documents=40)
    copies = pd.concat([frame.assign(seed=s, y=frame["y"] * (1 + s * 1e-9)) for s in range(3)], ignore_index=True)
    copies["seed"] = copies["seed"].astype("Int64")
    layout, alone = assemble(copies), assemble(frame)
    assert layout.n_seeds == 1
    assert layout.missing == ("the 3 seeds have identical scores and count as one",)
    assert layout.covers == alone.covers == "covers documents; not pre-training runs or seeds"
    np.testing.assert_allclose(layout.covariance, alone.covariance)
    assert assemble(copies, merge_identical=False).n_seeds == 3


def test_seeds_that_differ_anywhere_are_repeats():
    frame = simulate_study([0, 1, 2], np.random.default_rng(0), seeds=1, documents=40)
    copies = pd.concat([frame.assign(seed=s) for s in range(3)], ignore_index=True)
    copies["seed"] = copies["seed"].astype("Int64")
    copies.loc[(copies["seed"] == 1) & (copies["document"] == 7) & (copies["budget"] == 10**9), "y"] += 0.01
    assert assemble(copies).n_seeds == 3
