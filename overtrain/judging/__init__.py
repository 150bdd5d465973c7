"""Pairs of answers become questions, verdicts and win rates."""
