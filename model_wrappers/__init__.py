"""Turns a checkpoint into an lm-eval ``LM``, and fine-tunes or perturbs it on the way.

Importing this package must be fast, because every start of the interpreter imports the hook in ``_hook`` (see README). So
torch and lm-eval are imported only when one of the names below is used.
"""

TYPE_CHECKING = False  # `typing` itself would cost ten milliseconds at every interpreter start
if TYPE_CHECKING:
    from typing import Any

    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from model_wrappers.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        JudgeError,
        OvertrainError,
        ServerError,
        StoreError,
    )
    from model_wrappers.modifications.base import Modification, Modified

_HOMES = {
    "Checkpoint": "model_wrappers.checkpoints.checkpoint",
    "CheckpointError": "model_wrappers.errors",
    "ConfigError": "model_wrappers.errors",
    "DataError": "model_wrappers.errors",
    "JudgeError": "model_wrappers.errors",
    "Modification": "model_wrappers.modifications.base",
    "Modified": "model_wrappers.modifications.base",
    "OvertrainError": "model_wrappers.errors",
    "ServerError": "model_wrappers.errors",
    "StoreError": "model_wrappers.errors",
}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "JudgeError",
    "Modification",
    "Modified",
    "OvertrainError",
    "ServerError",
    "StoreError",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
