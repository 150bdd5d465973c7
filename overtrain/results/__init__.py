"""Results on disk: the store, its records, and the tidy frame that the analysis reads."""
