"""Checkpoints: where their weights are, how many tokens they have seen, and how they were initialised."""
