"""Studies over checkpoints: what is run, stored, analysed and reported. One run of one checkpoint is `model_wrappers`."""
