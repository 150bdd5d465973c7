import numpy as np
import pandas as pd

from overtrain.analysis.family import adjusted_verdicts, in_family
from overtrain.analysis.inflection import CurveTests
from overtrain.analysis.layout import from_cells
from overtrain.analysis.simulate import simulate_cells


def curves(count, rng, rising=0):
    means = [(0, 0, 0, 0, 0, 9.0 if place < rising else 0.0) for place in range(count)]
    return [CurveTests(from_cells(simulate_cells(mean, rng)), simulations=2_000) for mean in means]


def test_bases_and_copies_of_a_metric_do_not_count():
    verdicts = pd.DataFrame(
        {
            "kind": ["base", "noise", "noise", "noise", "noise"],
            "family": "f",
            "line": ["base", "a", "a", "a", "b"],
            "endpoint": ["x", "x", "x", "y", "x"],
            "metric": ["acc", "acc", "bits_per_byte", "acc", "acc_norm"],
        },
        index=[5, 6, 7, 8, 9],
    )
    chosen = in_family(verdicts, metrics=["bits_per_byte", "acc"])
    assert chosen[chosen].index.tolist() == [7, 8, 9]


def test_one_member_needs_no_adjustment():
    (only,) = curves(1, np.random.default_rng(0), rising=1)
    row = adjusted_verdicts([only]).iloc[0]
    assert row["p_rise_family"] == only.p_value(only.largest_rise[0])
    assert row["critical_family"] == only.critical[0]
    assert row["verdict_family"] == "turn"


def test_independent_members_need_sidaks_level():
    members = curves(20, np.random.default_rng(1))
    table = adjusted_verdicts(members)
    assert (table["n_family"] == 20).all()
    assert (table["false_expected"] == 1.0).all()
    # a member exceeds the family's critical value with Sidak's probability, 1 - 0.95^(1/20) = 0.26%, on average
    beyond = [
        (tests.null[:, 0] > critical).mean() for tests, critical in zip(members, table["critical_family"], strict=True)
    ]
    assert 0.001 < np.mean(beyond) < 0.008


def test_copies_of_one_curve_need_less_than_independent_ones():
    rng = np.random.default_rng(2)
    independent = curves(12, rng)
    copies = [independent[0]] * 12
    apart = adjusted_verdicts(independent)["critical_family"].iloc[0] / independent[0].critical[0]
    alike = adjusted_verdicts(copies)["critical_family"].iloc[0] / independent[0].critical[0]
    assert 1 < alike < apart


def test_a_strong_turn_stays_and_nothing_known_is_missing():
    members = [*curves(8, np.random.default_rng(3), rising=1), CurveTests(from_cells(np.zeros((6, 1))))]
    table = adjusted_verdicts(members)
    assert table["verdict_family"].iloc[0] == "turn"
    assert table["p_rise_family"].iloc[0] < 0.05
    assert np.isnan(table["p_rise_family"].iloc[-1])
    assert table["verdict_family"].iloc[-1] == "inconclusive"
    assert (table["n_family"] == 8).all()
