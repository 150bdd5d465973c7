"""Perplexity of held-out text, from rolling log-likelihoods (README.md)."""
