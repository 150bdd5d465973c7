"""Simulated studies whose truth is known, one file per part of the analysis; `benchmarks.statistics` runs them all."""
