"""Runs a study's cells, and reports the progress."""
