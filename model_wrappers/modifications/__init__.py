"""One file per modification; `model_wrappers.modifications.registry` finds them, and also those in users' own packages."""
