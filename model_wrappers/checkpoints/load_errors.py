"""Turns exceptions of libraries that load a checkpoint into one clear message, with the wrong value and a remedy."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import CheckpointError, ConfigError, OvertrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from model_wrappers.checkpoints.checkpoint import Checkpoint

__all__ = ["load_error", "loading", "refuse_empty"]

_LONGEST = 300
_CODE = "contains custom code"
_NO_CAUSAL_MODEL = "Unrecognized configuration class"
_UNKNOWN_TYPE = ("does not recognize this architecture", "Should have a `model_type` key")
_OTHER_SHAPES = "ignore_mismatched_sizes"
_NOT_ASKED_FOR = frozenset(
    {"device", "gpus", "offload_folder", "revision", "subfolder", "trust_remote_code", "use_fast_tokenizer"}
)
_REMEDIES = {
    "configuration": "correct config.json, or download or copy the checkpoint again",
    "tokenizer": (
        "copy the tokenizer's files beside the weights (tokenizer.json, tokenizer_config.json), or give tokenizer= where "
        "they are"
    ),
    "weights": "download or copy the checkpoint again, and check the arguments that concern loading",
}


@contextlib.contextmanager
def loading(what: str, checkpoint: Checkpoint, arguments: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn an exception of transformers, torch or another library inside the block into one `OvertrainError`.

    The block should contain only the library's own loading, whose exceptions are about a file or an argument. Errors of this
    package and out-of-memory errors pass unchanged.

    Args:
        what: the part that is loaded: ``configuration``, ``tokenizer`` or ``weights``.
        checkpoint: the checkpoint that is loaded.
        arguments: arguments of the user that are passed to the library.
    """
    import torch

    try:
        yield
    except (OvertrainError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise load_error(error, checkpoint, what, arguments) from error


def load_error(
    error: Exception, checkpoint: Checkpoint, what: str = "weights", arguments: Mapping[str, Any] | None = None
) -> OvertrainError:
    """Return a clear error for an exception of ``from_pretrained``.

    ``.bin`` files are read with ``weights_only=True``, so a pickle with other contents than tensors is refused before any
    of its code runs. torch's message recommends to allow such a pickle; our message does not.
    """
    place, text = checkpoint.place(), str(error)
    given = dict(arguments or {}) | dict(checkpoint.overrides)
    if "Weights only load failed" in text:
        reason = next((line for line in text.splitlines() if "Unsupported" in line or "unsupported" in line), "")
        return CheckpointError(
            f"the .bin weights of {place} were refused, nothing in them was run: they are damaged or hold more than "
            f"tensors{f' ({reason.strip()})' if reason else ''}; use a revision with safetensors, or convert them "
            "where you trust them"
        )
    named = _of_an_argument(error, given)
    if named is not None:
        return named
    if _CODE in text:
        return ConfigError(
            f"{place} brings code of its own along; read it, and if you trust it give trust_remote_code=True (in a study, "
            "evaluation: {trust_remote_code: true})"
        )
    if _NO_CAUSAL_MODEL in text:
        kind = checkpoint.config().get("model_type")
        return ConfigError(
            f"{place} is a model of type {kind!r}, which is no causal language model: it cannot be loaded to be trained or "
            "scored by its next-token probabilities; choose a decoder-only checkpoint"
        )
    if any(words in text for words in _UNKNOWN_TYPE):
        kind = checkpoint.config().get("model_type")
        return CheckpointError(
            f"config.json of {place} has model_type={kind!r}, which the installed transformers does not know; correct it, "
            "or install a version of transformers that has the architecture"
        )
    if _OTHER_SHAPES in text:
        return CheckpointError(
            f"{place} has weights of other shapes than its config.json says; nothing is evaluated with random numbers in "
            "their place; download or save the checkpoint again"
        )
    if what == "weights" and _is_damage(error):
        return CheckpointError(f"the weights of {place} are damaged ({_short(error)}); download or copy them again")
    return CheckpointError(f"the {what} of {place} cannot be loaded ({_short(error)}); {_REMEDIES[what]}")


def refuse_empty(tokenizer: Any, checkpoint: Checkpoint) -> None:
    """Check that a tokenizer has a vocabulary: without files, transformers makes an empty one for some architectures.

    Raises:
        CheckpointError: it makes no tokens of a text.
    """
    tokens = tokenizer.encode("Is there a token? 1", add_special_tokens=False)
    if not tokens or len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise CheckpointError(
            f"the tokenizer of {checkpoint.place()} has no vocabulary, so its files are missing; {_REMEDIES['tokenizer']}"
        )


def _of_an_argument(error: Exception, given: Mapping[str, Any]) -> ConfigError | None:
    """Return a message about the argument that caused the error; None if the error names no argument."""
    text = str(error)
    for name, value in given.items():
        if isinstance(error, TypeError) and f"unexpected keyword argument {name!r}" in text:
            return ConfigError(
                f"{name}={value!r}: the installed transformers does not take it as an argument; leave it out, or write what "
                "it stands for into config.json of a copy of the checkpoint"
            )
        if name in _NOT_ASKED_FOR or value is None or value is False or value == "":
            continue
        written = isinstance(value, str) and (
            (len(value) > 2 and (repr(value) in text or f'"{value}"' in text))
            or (len(value) > 3 and "." in value and value in text)
        )
        if written or f"'{name}'" in text or f"`{name}`" in text or _is_about(error, name):
            return ConfigError(f"{name}={value!r}: {_short(error)}; give another value, or leave it out")
    return None


def _is_about(error: Exception, name: str) -> bool:
    """Return whether an error is about a package that the argument needs."""
    needs = {
        **dict.fromkeys(("load_in_4bit", "load_in_8bit"), ("bitsandbytes", "No GPU")),
        "attn_implementation": ("FlashAttention", "flash_attn", "flash-attn"),
        "autogptq": ("auto_gptq", "auto-gptq"),
        "gptqmodel": ("gptqmodel",),
        "peft": ("adapter_config.json",),
    }
    return any(words in str(error) for words in needs.get(name, ()))


def _is_damage(error: Exception) -> bool:
    """Return whether an error comes from reading a weight file, in safetensors or in ``torch.load``."""
    from safetensors import SafetensorError

    if isinstance(error, (SafetensorError, EOFError)):
        return True
    trace = error.__traceback__
    files = []
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return any(name.endswith(("torch/serialization.py", "torch/_weights_only_unpickler.py")) for name in files)


def _short(error: Exception) -> str:
    """Return an error's kind and what it says, on one line."""
    said = " ".join(str(error).split())
    said = said if len(said) <= _LONGEST else said[:_LONGEST].rpartition(" ")[0] + " ..."
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
