"""The dtype that ``dtype=auto`` stands for, found without loading the model."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from model_wrappers.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from model_wrappers.checkpoints.checkpoint import Checkpoint

__all__ = ["evaluated_dtype"]

_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def evaluated_dtype(checkpoint: Checkpoint, wanted: str) -> str:
    """Return the dtype that a checkpoint is evaluated in: ``wanted``, or for ``auto`` the checkpoint's own dtype.

    The checkpoint's own dtype is the one that ``config.json`` names. If it names none, it is the dtype of the first
    floating-point weight in the first file, as in transformers.

    Raises:
        ConfigError: the checkpoint names no dtype.
        CheckpointError: a file cannot be read.
    """
    if wanted != "auto":
        return wanted
    content = checkpoint.config()
    named = content.get("dtype") or content.get("torch_dtype")
    if named:
        return str(named).removeprefix("torch.")
    first = min(checkpoint.weight_paths())
    found = _first_dtype(first) if first.suffix == ".safetensors" else None
    if found is None:
        raise ConfigError(f"{checkpoint.location()}: nothing names a dtype; give evaluation: {{dtype: float32}}")
    return found


def _first_dtype(path: Path) -> str | None:
    """Return the dtype of the first floating tensor of a safetensors file, from its header alone."""
    try:
        with path.open("rb") as handle:
            (size,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(min(size, 100_000_000)))
        tensors = [about["dtype"] for name, about in header.items() if name != "__metadata__"]
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); download or copy the weights again") from error
    return next((_NAMES[t] for t in tensors if t in _NAMES), None)
