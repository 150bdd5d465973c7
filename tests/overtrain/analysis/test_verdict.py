import numpy as np
import pandas as pd
import pytest

from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import TRUTHS, simulate_study
from overtrain.analysis.verdict import classify, equivalent, verdict

COVERS_NO_OTHER_RUN = "one pre-training run per budget, so no interval covers another pre-training"


def study(means, seed=0, **design):
    return simulate_study(means, np.random.default_rng(seed), **{"seed_sd": 0.3, **design})


@pytest.mark.parametrize(
    ("means", "margin", "expected"),
    [
        (TRUTHS["U"], None, "U"),
        ((0, 0, 0, 3, 6, 9), None, "turn"),
        (TRUTHS["falling"], None, "monotone"),
        (TRUTHS["plateau"], None, "monotone"),
        (TRUTHS["flat"], None, "inconclusive"),
        (TRUTHS["flat"], 4.0, "plateau"),
        ((0, 0, 9, 9, 9, 0), None, "inconclusive"),
    ],
)
def test_verdicts(means, margin, expected):
    row = verdict(study(means), margin=margin).iloc[0]
    assert row["verdict"] == expected
    assert row["sentence"].endswith(").")
    assert COVERS_NO_OTHER_RUN in row["sentence"]
    assert "3 seeds" in row["sentence"]
    assert "100 documents" in row["sentence"]


def test_the_sentence_of_a_u_has_its_numbers():
    row = verdict(study(TRUTHS["U"])).iloc[0]
    assert f"T = {row['rise']:.2f}, critical value {row['critical']:.2f}" in row["sentence"]
    assert "the minimum lies between 2B and 16B (95% confidence)" in row["sentence"]
    assert (row["after"], row["before"]) == (2 * 10**9, 16 * 10**9)
    assert row["rise_established"]
    assert row["fall_established"]


def test_no_inflection_point_is_established_up_to_the_last_budget():
    row = verdict(study(TRUTHS["falling"])).iloc[0]
    assert row["right_censored"]
    assert "no inflection point established up to 32B" in row["sentence"]


def test_the_first_rise_is_a_column():
    row = verdict(study((5, 1, 1, 4, 8, 12))).iloc[0]
    assert row["first_rise"] == 4 * 10**9
    assert row["first_rise_by"] == pytest.approx(3, abs=2)
    assert verdict(study(TRUTHS["falling"])).iloc[0]["first_rise"] is pd.NA


def test_a_turn_from_one_seed_says_so():
    row = verdict(study(TRUTHS["U"], seeds=1)).iloc[0]
    assert row["verdict"] == "U"
    assert "1 seed, so variation between seeds is not covered" in row["sentence"]
    assert row["covers"] == "covers documents; not pre-training runs or seeds"


def test_a_turn_without_documents_says_so():
    row = verdict(study(TRUTHS["U"], documents=1)).iloc[0]
    assert row["verdict"] == "U"
    assert "no scores per document, so the choice of documents is not covered" in row["sentence"]


def test_several_runs_are_covered():
    row = verdict(study(TRUTHS["U"], runs=3)).iloc[0]
    assert "3 pre-training runs per budget" in row["sentence"]
    assert COVERS_NO_OTHER_RUN not in row["sentence"]


def test_nothing_repeated_is_inconclusive():
    row = verdict(study(TRUTHS["U"], seeds=1, documents=1), margin=100.0).iloc[0]
    assert row["verdict"] == "inconclusive"
    assert "one seed and one score per cell leave nothing to estimate a standard error from" in row["sentence"]
    assert np.isnan(row["rise"])
    one = verdict(study([0.0])).iloc[0]
    assert one["verdict"] == "inconclusive"
    assert "fewer than two budgets" in one["sentence"]


def test_a_rise_before_a_last_budget_that_may_be_the_minimum_is_no_turn():
    tests = CurveTests(assemble(study((0, 0, 9, 9, 9, 0))))
    assert tests.largest_rise[0] > tests.critical[0]
    assert classify(tests) == "inconclusive"


def test_missing_cells_are_in_the_sentence():
    frame = study(TRUTHS["U"], seeds=5)
    row = verdict(frame[(frame["seed"] != 4) | (frame["budget"] != 10**9)]).iloc[0]
    assert row["missing"] == "1 missing cell; seed 4 left out: not at every budget"
    assert row["missing"] in row["sentence"]


def test_a_turn_within_the_margin_says_so():
    row = verdict(study((0, 0, 0, 0, 0, 2), seed_sd=0.1, document_sd=0.3), margin=5.0).iloc[0]
    assert row["verdict"] in {"turn", "U"}
    assert row["equivalent"]
    assert "all budgets lie within the margin of 5" in row["sentence"]


def test_equivalence_is_two_one_sided_t_tests():
    from scipy import stats

    layout = assemble(study([0.0, 0.5], seeds=6, documents=1))
    tests = CurveTests(layout)
    difference = layout.cells[1] - layout.cells[0]
    for margin in (0.2, 0.5, 0.8, 1.2, 2.0):
        below = stats.ttest_1samp(difference, margin, alternative="less").pvalue
        above = stats.ttest_1samp(difference, -margin, alternative="greater").pvalue
        assert equivalent(tests, margin) == (max(below, above) < 0.05)


def test_many_curves_at_once():
    both = pd.concat([study(TRUTHS["U"]).assign(gamma=0.3), study(TRUTHS["falling"]).assign(gamma=0.1)])
    table = verdict(both, by=["gamma"], quantity="perplexity")
    assert dict(zip(table["gamma"], table["verdict"], strict=True)) == {0.1: "monotone", 0.3: "U"}
    assert table["sentence"].str.contains("perplexity falls").all()


@pytest.mark.parametrize("budgets", [2, 3])
@pytest.mark.parametrize("seeds", [1, 3])
def test_scores_without_any_noise_establish_nothing(budgets, seeds):
    """Documents that all move alike, and seeds that do not differ: T is infinite, and says nothing."""
    levels = [3.15, 3.32, 3.4][:budgets]
    rows = [
        (1000 * (place + 1), "run", seed, document, 1.0, level + document)
        for place, level in enumerate(levels)
        for seed in range(seeds)
        for document in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["budget", "run", "seed", "document", "weight", "y"]).astype({"seed": "Int64"})
    assert verdict(frame)["verdict"].tolist() == ["inconclusive"]
