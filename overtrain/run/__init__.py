"""Runs a study's cells and says how far it is."""
