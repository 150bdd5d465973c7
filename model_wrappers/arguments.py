"""Splits ``--model_args`` into a checkpoint, ordered modifications, and arguments for lm-eval's own HF model."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, close_match
from model_wrappers.generation.options import GenerateOptions
from model_wrappers.modifications.registry import registry
from model_wrappers.scoring.options import NAME as SCORING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from model_wrappers.modifications.base import Modification

__all__ = ["choose", "host_arguments", "modification", "split_arguments"]

# Arguments that are passed on to from_pretrained. An argument that is not among them, and that neither lm-eval's HFLM, nor
# this project, nor the checkpoint's config knows, is a misspelling: from_pretrained would ignore it or fail with a traceback.
FROM_PRETRAINED = frozenset(
    {
        *("attn_implementation", "cache_dir", "code_revision", "device_map", "force_download", "local_files_only"),
        *("load_in_4bit", "load_in_8bit", "bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant"),
        *("low_cpu_mem_usage", "max_memory", "offload_buffers", "offload_state_dict", "proxies", "token"),
        *("use_safetensors", "variant", "weights_only"),
    }
)
CHECKPOINT_ARGUMENTS = ("revision", "subfolder", "tokens")


def host_arguments(host: type) -> set[str]:
    """Return the names of the keyword arguments of lm-eval's model class."""
    return {name for name in inspect.signature(host).parameters if name not in {"self", "kwargs"}}


def split_arguments(
    given: Mapping[str, Any], kind: type[Modification] | None, host: type
) -> tuple[Checkpoint, dict[str, Any], dict[str, Any]]:
    """Split arguments into the checkpoint, the fields of one modification, and the arguments of lm-eval's model.

    Args:
        given: every argument that lm-eval passes on, ``pretrained`` included.
        kind: the modification whose fields are arguments; None for a recipe, which contains its own.
        host: lm-eval's model class.

    Raises:
        ConfigError: ``pretrained`` is missing, or an argument is unknown; the message names the closest known one.
    """
    rest = dict(given)
    if not isinstance(rest.get("pretrained"), (str, Path)) or not str(rest["pretrained"]):
        raise ConfigError(
            f"pretrained={rest.get('pretrained')!r}: must be a hub repository or a local folder; give pretrained=..."
        )
    own_names = set(kind.fields()) if kind else set()
    own = {name: rest.pop(name) for name in list(rest) if name in own_names}
    checkpoint = Checkpoint(
        repo=rest.pop("pretrained"),
        revision=str(rest.pop("revision", None) or "main"),
        subfolder=str(rest.pop("subfolder", "") or ""),
        tokens=coerce("tokens", rest.pop("tokens", None), int | None),
    )
    known = (
        own_names | host_arguments(host) | FROM_PRETRAINED | {*CHECKPOINT_ARGUMENTS, *GenerateOptions.names(), SCORING}
    )
    unknown = [name for name in rest if name not in known]
    _refuse_unknown(unknown, known, own_names, checkpoint)
    overrides = tuple((name, rest.pop(name)) for name in unknown)
    return dataclasses.replace(checkpoint, overrides=overrides), own, rest


def _refuse_unknown(names: Iterable[str], known: set[str], own: set[str], checkpoint: Checkpoint) -> None:
    for name in names:
        if checkpoint.side_file("config.json") is not None and name in checkpoint.config():
            continue
        allowed = ", ".join(sorted(own)) or "recipe"
        raise ConfigError(
            f"unknown argument {name!r}{close_match(name, known)} (allowed: {allowed}; lm-eval's arguments for hf models; "
            "from_pretrained's)"
        )


def choose(arguments: dict[str, Any], wanted: Callable[[type[Modification]], bool]) -> type[Modification]:
    """Return the modification that a command line asks for, and remove ``kind`` from ``arguments``.

    ``kind=NAME`` names it. Without ``kind``, it is the modification whose fields match most of the arguments, misspelled ones
    included. If several match equally many, it is the one with `Modification.preferred`.

    Args:
        arguments: arguments of the command line, including those for lm-eval's model.
        wanted: returns whether a modification may be chosen.

    Raises:
        ConfigError: ``kind`` is unknown, or the arguments fit several and none of them is preferred.
    """
    able = {name: cls for name, cls in registry().items() if wanted(cls)}
    if (kind := arguments.pop("kind", None)) is not None:
        return modification(str(kind), list(able))

    def fit(cls: type[Modification]) -> tuple[int, int, bool]:
        fields = cls.fields()
        near = sum(bool(close_match(given, fields)) for given in arguments if given not in fields)
        return sum(given in fields for given in arguments), near, cls.preferred

    best = max(fit(cls) for cls in able.values())
    meant = [name for name, cls in able.items() if fit(cls) == best]
    if len(meant) > 1:
        raise ConfigError(f"the arguments fit several modifications ({', '.join(meant)}); add kind=NAME")
    return able[meant[0]]


def modification(name: str, allowed: Sequence[str] | None = None) -> type[Modification]:
    """Return the modification called ``name``.

    Raises:
        ConfigError: there is none, or it is not among ``allowed``; the message names the choices.
    """
    names = list(allowed or registry())
    if name not in names:
        raise ConfigError(f"unknown modification {name!r}{close_match(name, names)} (allowed: {', '.join(names)})")
    return registry()[name]
