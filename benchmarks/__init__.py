"""Measurements against other tools, as ratios. Each has one command: ``python -m benchmarks.NAME``."""
