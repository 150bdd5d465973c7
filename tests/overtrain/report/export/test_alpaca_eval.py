"""AlpacaEval's leaderboard, by hand; against alpaca_eval itself in tests/overtrain/test_vllm.py."""

from __future__ import annotations

import pytest

from model_wrappers.errors import StoreError
from overtrain.report.export import export
from overtrain.report.export.alpaca_eval import COLUMNS, leaderboard_row


def test_a_row_of_the_leaderboard():
    """Preferences 2, 1.8, 1.5, 1.2 and one without a verdict: wins 1, .8, .5, .2, their mean .625, deviation .35."""
    row = leaderboard_row([2.0, 1.8, 1.5, 1.2, None], ["abcd", "ab", "", "abc", "abcdef"])
    assert tuple(row) == COLUMNS
    assert row["win_rate"] == pytest.approx(62.5)
    assert row["standard_error"] == pytest.approx(100 * 0.35 / 4**0.5)
    assert (row["n_wins"], row["n_wins_base"], row["n_draws"], row["n_total"]) == (2, 1, 1, 4)
    assert row["discrete_win_rate"] == pytest.approx(62.5)
    assert row["avg_length"] == 3


def test_a_row_without_verdicts_has_no_win_rate():
    row = leaderboard_row([None, None], ["a", "b"])
    assert row["win_rate"] is row["standard_error"] is row["discrete_win_rate"] is None
    assert row["n_total"] == 0


def test_a_study_that_was_not_judged(tmp_path, make_study, make_run):
    root = make_run(tmp_path / "s", *make_study("u", budgets=(1_000,), rates=(), gammas=(), tasks=(), documents=2))
    with pytest.raises(StoreError, match="has not been judged; run `overtrain judge"):
        export(root, form="alpaca_eval")
