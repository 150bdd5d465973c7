"""Checks arguments of lm-eval's own model class before anything is loaded; lm-eval ignores wrong ones or fails late."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, close_match

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEVICES", "check_device", "check_host_arguments"]

DEVICES = "cpu, cuda, cuda:N, mps"
"""Names of devices, for messages."""

_DEFAULT_DEVICE = "cuda:0"
"""What lm-eval's command line gives where a user gives no device."""

_DEVICE = re.compile(r"cpu|cuda(:\d+)?|mps(:0)?|(npu|xpu|hpu):\d+")
_TYPES = {"bool": bool, "int": int, "float": float, "None": None}
_POSITIVE = ("max_length", "max_batch_size")
_DTYPES = ("dtype", "softmax_dtype", "mixed_precision_dtype")
_BACKENDS = ("default", "causal", "seq2seq")


def check_host_arguments(given: Mapping[str, Any], host: type) -> dict[str, Any]:
    """Return the arguments for lm-eval's model class; values of simple types are converted to these types.

    Args:
        given: keyword arguments for ``host``.
        host: lm-eval's model class, whose annotations give the types.

    Raises:
        ConfigError: a value of the wrong type or out of its range; lm-eval would fail with a traceback, or ignore it.
    """
    annotated = {name: str(p.annotation) for name, p in inspect.signature(host).parameters.items()}
    checked = dict(given)
    for name, value in given.items():
        kinds = annotated.get(name, "str").replace(" ", "").split("|")
        if value is not None and set(kinds) <= set(_TYPES):
            read = [_TYPES[kind] for kind in kinds if kind != "None"]
            checked[name] = coerce(name, value, read[0]) if len(read) == 1 else value
        if name in _POSITIVE and value is not None and checked[name] < 1:
            raise ConfigError(f"{name}={value}: must be 1 or more; leave it out for the default")
        if name in _DTYPES and value is not None:
            _check_dtype(name, value)
    _check_batch_size(given.get("batch_size"))
    _check_words(given)
    return checked


def check_device(device: str, *, here: bool = True) -> None:
    """Check a torch device's name, and that this machine has the device.

    Args:
        device: its name.
        here: whether it is used on this machine; a study may be validated on another one.

    Raises:
        ConfigError: there is no such device.
    """
    if not _DEVICE.fullmatch(str(device)):
        meant = "; did you mean 'cuda'?" if str(device).lower().startswith(("gpu", "nvidia")) else ""
        raise ConfigError(f"device={device!r}: unknown{meant or '; choose one'} (allowed: {DEVICES})")
    if not here:
        return
    import torch

    kind, _, number = str(device).partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else None
    if count == 0 and str(device) == _DEFAULT_DEVICE:
        return  # nobody asked for it: lm-eval's model then takes the CPU, and says so
    if count is not None and count <= int(number or 0):
        there = f"only {count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device that torch can use"
        raise ConfigError(f"device={device!r}: this machine has {there}; give device=cpu, or run it elsewhere")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device={device!r}: this machine has no Apple GPU that torch can use; give device=cpu")


def _check_dtype(name: str, value: object) -> None:
    import torch

    if isinstance(value, torch.dtype) or (name == "dtype" and value == "auto"):
        return
    found = getattr(torch, str(value), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        automatic = "auto, " if name == "dtype" else ""
        raise ConfigError(f"{name}={value!r}: must be one of {automatic}float32, bfloat16, float16; leave it out else")


def _check_batch_size(value: object) -> None:
    if value is None or re.fullmatch(r"auto(:\d+(\.\d+)?)?|[1-9]\d*", str(value)):
        return
    raise ConfigError(f"batch_size={value!r}: must be an integer of 1 or more, or auto; leave it out for 1")


def _check_words(given: Mapping[str, Any]) -> None:
    backend, tokenizer = given.get("backend", "default"), given.get("tokenizer")
    if backend not in _BACKENDS:
        near = close_match(str(backend), _BACKENDS)
        raise ConfigError(f"backend={backend!r}: unknown{near} (allowed: {', '.join(_BACKENDS)})")
    if isinstance(tokenizer, (int, float)):
        raise ConfigError(
            f"tokenizer={tokenizer!r}: must be a folder or a hub repository; leave it out for the checkpoint's"
        )
    if given.get("enable_thinking") and given.get("think_end_token") is None:
        raise ConfigError(
            "enable_thinking=True: lm-eval then needs think_end_token=..., the text that ends the thinking"
        )
