"""From a study to its cells: what is run, under which identity, at what cost."""
