"""Both orders, or the one that AlpacaEval chooses."""

from __future__ import annotations

import pytest

from model_wrappers.errors import ConfigError
from overtrain.judging.orders import check_orders, shown_first

TEXTS = [
    *("2+2", "2+3", "Give three tips.", "Name a colour.", "", "What is the capital of Norway?"),
    *("Écris un poème sur l'été.", "解释一下量子纠缠", "Write code:\n```py\nprint(1)\n```", "a", "b", "c"),
]


@pytest.mark.parametrize(
    ("seed", "switched"), [(0, [0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0]), (123, [0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])]
)
def test_one_order_is_that_of_alpaca_eval(seed, switched):
    """``switched`` is what alpaca_eval 0.6.6's RandomSwitchTwoColumnsProcessor made of these instructions."""
    assert [shown_first(text, "one", seed=seed) for text in TEXTS] == [(bool(s),) for s in switched]


def test_both_orders_are_both():
    assert all(sorted(shown_first(text, "both")) == [False, True] for text in TEXTS)


def test_an_unknown_word_is_refused():
    with pytest.raises(ConfigError, match="orders='bot': must be one of both, one; did you mean 'both'"):
        check_orders("bot")
