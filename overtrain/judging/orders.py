"""The order in which the judge sees two answers: both orders, or one order that AlpacaEval's seed chooses per instruction."""

from __future__ import annotations

import random
from typing import Literal, get_args

from model_wrappers.errors import ConfigError, close_match

__all__ = ["ORDERS", "Orders", "check_orders", "shown_first"]

Orders = Literal["both", "one"]
ORDERS: tuple[Orders, ...] = get_args(Orders)


def check_orders(orders: str) -> Orders:
    """Return ``orders`` if it is one of `ORDERS`.

    Raises:
        ConfigError: it is not.
    """
    for known in ORDERS:
        if orders == known:
            return known
    raise ConfigError(f"orders={orders!r}: must be one of {', '.join(ORDERS)}{close_match(orders, ORDERS)}")


def shown_first(instruction: str, orders: Orders, *, seed: int = 0) -> tuple[bool, ...]:
    """Return for every question to the judge whether the answer, rather than the reference, is shown first.

    With ``both`` there are two. The reference comes first in the first, so that pairs of one reference share a longer prefix.
    With ``one`` AlpacaEval's choice: its reference is ``output_1``, and the outputs are switched for a pseudo-random half of
    the instructions.

    >>> shown_first("2+2", "both")
    (False, True)
    >>> [shown_first(text, "one")[0] for text in ("2+2", "2+3", "Give three tips.", "Name a colour.")]
    [False, True, False, True]

    Args:
        instruction: that both answers follow.
        orders: ``both`` or ``one``.
        seed: of alpaca_eval's annotator; 0 is what its command line uses.

    Source: alpaca_eval 0.6.6, ``RandomSwitchTwoColumnsProcessor`` with ``random_seed_columns=("instruction",)``: Python's
    generator, seeded with the column's name, the instruction and the seed as one text.
    """
    if orders == "both":
        return (False, True)
    switched = random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True])[0]  # noqa: S311
    return (switched,)
