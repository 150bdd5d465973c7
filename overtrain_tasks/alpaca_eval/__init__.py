"""AlpacaEval: this task generates answers to its instructions; `overtrain.judging` compares them with a reference."""

__all__ = ["SATURATED", "TASK"]

TASK = "overtrain_alpaca_eval"
"""The task that generates the answers, and the name of the win rates in a study's frame."""

SATURATED = (20.0, 80.0)
"""Win rates in percent. Outside of this range, differences of win rates become smaller, because one side almost always wins."""
