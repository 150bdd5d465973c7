"""How many tokens a training takes, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_wrappers.modifications.finetune import FineTune
from model_wrappers.modifications.lora import Lora


@pytest.fixture
def rows(tmp_path):
    """Ten lines of forty bytes: ten tokens each at four bytes a token."""
    path = tmp_path / "rows.jsonl"
    path.write_text(("x" * 39 + "\n") * 10)
    return str(path)


def test_tokens_of_a_local_file_are_rows_less_validation_times_epochs(rows):
    common = {"data": rows, "learning_rate": 1e-5}
    assert FineTune(**common, validation_fraction=0.2, epochs=3).cost(None).tokens == pytest.approx(10 * 0.8 * 3 * 10)
    assert FineTune(**common, max_steps=5, train_batch_size=2).cost(None).tokens == 5 * 2 * 10
    assert FineTune(**common, validation_fraction=0, data_limit=4).cost(None).tokens == 4 * 10
    assert FineTune(**common, validation_fraction=0, train_max_length=8).cost(None).tokens == 10 * 8


def test_a_file_that_grew_is_counted_again(rows):
    tuning = Lora(data=rows, learning_rate=1e-5, lora_rank=1, validation_fraction=0)
    before = tuning.cost(None).tokens
    with Path(rows).open("a") as handle:
        handle.write(("x" * 39 + "\n") * 10)
    assert tuning.cost(None).tokens == 2 * before


def test_a_limit_of_the_user_s_replaces_the_named_set_s_own():
    """The paper draws 200,000 rows of tulu; asked for, more are there."""
    few, default, more = (
        FineTune(data="tulu", learning_rate=1e-5, data_limit=limit).cost(None).tokens for limit in (1000, None, 300_000)
    )
    assert (default / few, more / few) == (200, 300)


def test_unknown_data_are_said_and_counted_as_no_work():
    cost = FineTune(data="org/rows", learning_rate=1e-5).cost(None)
    assert (cost.tokens, cost.flops(1e9)) == (None, 0)
    assert "org/rows" in cost.unknown
