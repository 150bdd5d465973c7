"""The command line: parsing, then one call."""
