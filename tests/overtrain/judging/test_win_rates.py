"""Win rates of hand-written preferences, with bias, ties and missing items."""

from __future__ import annotations

import numpy as np
import pytest

from overtrain.judging.win_rates import clustered_stderr, win_rates


def rows(found):
    return {row["metric"]: row for row in found.rows}


# P(the answer wins) when shown first, when shown second. The judge adds 0.2 for the first place.
TABLE = [
    ("a", (0.9, 0.5)),  # 70
    ("b", (0.7, 0.3)),  # 50, only because of the place
    ("c", (0.4, 0.0)),  # 20
    ("d", (None, None)),  # equal answers: 50
    ("e", None),  # one of the two preferences is missing
    ("a", (1.0, 0.6)),  # 80, the same instruction as the first
]
LENGTHS = [(10, 5), (20, 20), (5, 30), (7, 7), (99, 1), (30, 10)]


def test_a_hand_written_table():
    found = win_rates([0, 1, 2, 3, 4, 5], [i for i, _ in TABLE], [w for _, w in TABLE], LENGTHS)
    table = rows(found)
    assert table["win_rate"]["value"] == pytest.approx((70 + 50 + 20 + 50 + 80) / 5)
    assert table["position_bias"]["value"] == pytest.approx(20.0)
    assert table["length"]["value"] == pytest.approx((10 + 20 + 5 + 7 + 30) / 5)
    assert table["length_difference"]["value"] == pytest.approx((5 + 0 - 25 + 0 + 20) / 5)
    assert (table["missing"]["value"], table["missing"]["n_documents"]) == (1, 6)
    assert (table["win_rate"]["n_documents"], table["position_bias"]["n_documents"]) == (5, 4)
    # clusters a (70, 80), b, c, d around 54: sums 42, -4, -34, -4
    assert table["win_rate"]["stderr"] == pytest.approx(np.sqrt(4 / 3 * (42**2 + 4**2 + 34**2 + 4**2)) / 5)
    assert found.documents["document"].tolist() == [0, 1, 2, 3, 5]
    assert found.documents["win"].tolist() == pytest.approx([70, 50, 20, 50, 80])
    np.testing.assert_allclose(found.documents["first"], [90, 70, 40, np.nan, 100])
    np.testing.assert_allclose(found.documents["second"], [50, 30, 0, np.nan, 60])
    assert found.documents["length_difference"].tolist() == [5, 0, -25, 0, 20]
    assert {m: r["higher_is_better"] for m, r in table.items()} == {
        "win_rate": True, "position_bias": None, "length": None, "length_difference": None, "missing": False,
    }  # fmt: skip


def test_one_order_of_a_biased_judge_is_not_fifty():
    """Equally good answers and a judge that adds 20 points to the first place."""
    number = 10
    instructions = [str(n) for n in range(number)]
    lengths = [(1, 1)] * number
    first = rows(win_rates(range(number), instructions, [(0.7, None)] * number, lengths))
    both = rows(win_rates(range(number), instructions, [(0.7, 0.3)] * number, lengths))
    mixed = rows(win_rates(range(number), instructions, [(0.7, None)] * 7 + [(None, 0.3)] * 3, lengths))
    assert first["win_rate"]["value"] == pytest.approx(70)
    assert mixed["win_rate"]["value"] == pytest.approx(58)
    assert both["win_rate"]["value"] == pytest.approx(50)
    for table in (first, mixed, both):
        assert table["position_bias"]["value"] == pytest.approx(20)


def test_the_answers_swapped_give_the_complement():
    wins = [(0.9, 0.5), (0.2, 0.1), (None, None), (0.6, 0.6)]
    swapped = [(None, None) if a is None else (1 - b, 1 - a) for a, b in wins]
    one, other = (rows(win_rates(range(4), "abcd", w, [(1, 1)] * 4)) for w in (wins, swapped))
    assert one["win_rate"]["value"] + other["win_rate"]["value"] == pytest.approx(100)
    assert one["win_rate"]["stderr"] == pytest.approx(other["win_rate"]["stderr"])
    assert one["position_bias"]["value"] == pytest.approx(other["position_bias"]["value"])


def test_errors_without_repeated_instructions_are_the_usual_ones():
    values = np.random.default_rng(0).normal(size=50)
    assert clustered_stderr(values, range(50)) == pytest.approx(values.std(ddof=1) / np.sqrt(50))


def test_repeated_instructions_count_once():
    """Each value ten times in a cluster of its own: the error is that of the distinct values."""
    values = np.random.default_rng(0).normal(size=30)
    found = clustered_stderr(np.repeat(values, 10), np.repeat(np.arange(30), 10))
    assert found == pytest.approx(values.std(ddof=1) / np.sqrt(30))


def test_nothing_to_average_has_no_value():
    table = rows(win_rates([0, 1], ["a", "b"], [None, None], [(1, 2), (3, 4)]))
    assert (table["win_rate"]["value"], table["win_rate"]["stderr"], table["missing"]["value"]) == (None, None, 2)
    equal = rows(win_rates([0, 1], ["a", "a"], [(None, None)] * 2, [(1, 1)] * 2))
    assert (equal["win_rate"]["value"], equal["win_rate"]["stderr"], equal["position_bias"]["value"]) == (
        50,
        None,
        None,
    )
