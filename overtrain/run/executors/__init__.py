"""Where cells run: one file per executor, one protocol (`overtrain.run.executors.base`)."""
