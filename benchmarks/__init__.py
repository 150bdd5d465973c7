"""Ratios against peers, one command each: ``python -m benchmarks.NAME``."""
