"""Perplexity of held-out text by rolling log-likelihood (README.md)."""
