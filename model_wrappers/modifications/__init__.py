"""One file per modification; `model_wrappers.modifications.registry` finds them, and those of users' own packages."""
