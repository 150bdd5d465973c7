"""Ways to ask a judge: one file per backend, one protocol (`overtrain.judging.backends.base`)."""
