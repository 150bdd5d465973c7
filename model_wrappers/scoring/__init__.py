"""Log-likelihoods of lm-eval's requests, computed once per distinct prefix."""
