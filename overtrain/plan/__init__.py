"""From a study to its cells: what each cell runs, the identity of its result, and what the study costs."""
