"""A study's YAML file becomes a `Study`; every mistake is reported at once, with its line."""
