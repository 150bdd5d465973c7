"""Log-likelihoods of what lm-eval asks."""
