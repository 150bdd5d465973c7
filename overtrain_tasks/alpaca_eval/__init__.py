"""AlpacaEval: answers to its instructions, and a judge that compares them with a reference."""

__all__ = ["SATURATED", "TASK"]

TASK = "overtrain_alpaca_eval"
"""The task that generates the answers, and the name of the win rates in a study's frame."""

SATURATED = (20.0, 80.0)
"""Percent: beyond them a difference of win rates shrinks with the distance of the two models from the reference."""
