"""One figure per file; each takes an `Assembled` and returns drawings, or none where its frame has no rows."""
