"""One file per modification; `model_wrappers.modifications.base.registry` finds them."""
