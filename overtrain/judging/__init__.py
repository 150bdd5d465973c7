"""Pairs of answers become questions, preferences and win rates."""
