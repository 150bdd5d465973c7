"""Where cells run: one file per executor."""
