import numpy as np
import pandas as pd
import pytest
from scipy import stats

from model_wrappers.errors import DataError
from overtrain.analysis.compare import compare, compare_all
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import simulate_study


def study(means, seed=0, **design):
    return simulate_study(means, np.random.default_rng(seed), **design)


def test_documents_alone_are_the_paired_t_test():
    frame = study([0.0, 1.0], seeds=1, documents=80)
    before, after = (frame.loc[frame["budget"] == b, "y"].to_numpy() for b in (10**9, 2 * 10**9))
    row = compare(frame, 10**9, 2 * 10**9).iloc[0]
    expected = stats.ttest_rel(after, before)
    low, high = expected.confidence_interval()
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert row["effect"] == pytest.approx(after.mean() - before.mean())
    assert row["relative"] == pytest.approx(row["effect"] / abs(before.mean()))
    assert row["covers"] == "covers documents; not pre-training runs or seeds"


def test_seeds_alone_are_the_paired_t_test():
    frame = study([0.0, 1.0], 1, seeds=5, documents=1)
    layout = assemble(frame)
    row = compare(frame, 10**9, 2 * 10**9).iloc[0]
    assert row["p_value"] == pytest.approx(stats.ttest_rel(layout.cells[1], layout.cells[0]).pvalue)
    assert row["df"] == pytest.approx(4)


def test_seeds_and_documents_have_the_quantile_of_cochran_and_cox():
    frame = study([0.0, 1.0], 2, seeds=4, documents=30, interaction_sd=0)
    layout = assemble(frame)
    units = np.var(layout.cells[1] - layout.cells[0], ddof=1) / 4
    documents = layout.covariance[0, 0] + layout.covariance[1, 1] - 2 * layout.covariance[0, 1]
    row = compare(frame, 10**9, 2 * 10**9).iloc[0]
    assert row["se"] ** 2 == pytest.approx(units + documents)
    quantile = (units * stats.t.ppf(0.975, 3) + documents * stats.t.ppf(0.975, 29)) / (units + documents)
    assert stats.t.ppf(0.975, row["df"]) == pytest.approx(quantile)
    assert row["high"] - row["effect"] == pytest.approx(quantile * row["se"])


def test_other_budgets_help_only_where_their_noise_is_taken_as_equal():
    frame = study([0.0] * 6, 3, documents=1)
    two = frame[frame["budget"].isin([10**9, 2 * 10**9])]
    assert compare(frame, 10**9, 2 * 10**9, pooled=True)["df"].iloc[0] == pytest.approx(10)
    pd.testing.assert_frame_equal(compare(frame, 10**9, 2 * 10**9), compare(two, 10**9, 2 * 10**9))


def test_a_comparison_is_the_paired_t_test_of_its_two_budgets():
    frame = study([0.0] * 6, 3, seeds=5, documents=1, seed_sd=(1, 2, 3, 4, 5, 30))
    cells = frame.pivot_table(index="seed", columns="budget", values="y").to_numpy()
    expected = stats.ttest_rel(cells[:, 1], cells[:, 0])
    row = compare(frame, 10**9, 2 * 10**9).iloc[0]
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval()))


def test_unpaired_budgets_are_compared_by_welchs_test():
    frame = study([0.0] * 4, 4, seeds=4, documents=1, seed_sd=(1, 5, 1, 1))
    frame["seed"] += 10 * (frame["budget"] // 10**9)
    sides = [frame.loc[frame["budget"] == b, "y"].to_numpy() for b in (2 * 10**9, 10**9)]
    expected = stats.ttest_ind(*sides, equal_var=False)
    row = compare(frame, 10**9, 2 * 10**9).iloc[0]
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert row["df"] == pytest.approx(expected.df)


def test_a_budget_without_result_is_an_error():
    with pytest.raises(DataError, match="budget 5 has no complete result; budgets with one: 1000000000, 2000000000"):
        compare(study([0.0, 1.0]), 5, 10**9)


def test_all_pairs_unpaired_are_tukeys_test():
    frame = study([0.0, 1.0, 3.0, 1.0], 4, seeds=5, documents=1, shared_seed_sd=0)
    frame["seed"] += 10 * (frame["budget"] // 10**9)
    table = compare_all(frame, pooled=True)
    groups = [frame.loc[frame["budget"] == b, "y"].to_numpy() for b in sorted(set(frame["budget"]))]
    expected = stats.tukey_hsd(*groups)
    first, second = np.triu_indices(4, 1)
    # 20,000 simulated studies: standard error of a p-value at most 0.0035
    np.testing.assert_allclose(table["p_adjusted"], expected.pvalue[first, second], atol=0.012)
    intervals = expected.confidence_interval()
    np.testing.assert_allclose(table["high"], -intervals.low[first, second], atol=0.1)


def test_adjusted_p_values_are_never_below_the_plain_ones():
    table = compare_all(study([0, 1, 2, 3, 2, 1], 5))
    assert (table["p_adjusted"] >= table["p_value"] - 0.01).all()
    assert len(table) == 15
