"""Refuses checkpoints with missing weights, ignored settings, or numbers that are not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_wrappers.errors import CheckpointError, ConfigError, DivergedError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Whole", "refuse_ignored", "refuse_not_finite", "refuse_offloaded"]

_SHOWN = 5


class Whole:
    """Wraps one of transformers' auto classes, and refuses a checkpoint with missing weights.

    transformers only warns about missing weights and fills them with random numbers. Tied weights and buffers that the model
    computes itself are not missing; transformers does not count them.

    Args:
        auto_class: a class of transformers, e.g. ``AutoModelForCausalLM``.
    """

    def __init__(self, auto_class: Any) -> None:
        self._auto_class = auto_class

    def from_pretrained(self, location: Any, *arguments: Any, **kwargs: Any) -> Any:
        """Return the model as ``from_pretrained`` does.

        Raises:
            CheckpointError: weights are missing, or their shapes differ from the configuration.
        """
        model, info = self._auto_class.from_pretrained(location, *arguments, output_loading_info=True, **kwargs)
        missing = sorted(info.get("missing_keys") or ())
        shapes = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get("mismatched_keys") or ())
        for names, what in ((missing, "lacks"), (shapes, "has other shapes than its configuration says of")):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                raise CheckpointError(
                    f"{location} {what} {len(names)} weights of a {type(model).__name__}: {', '.join(names[:_SHOWN])}{more}; "
                    "nothing is evaluated with random numbers in their place; download or save the checkpoint again"
                )
        return model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._auto_class, name)


def refuse_ignored(model: Any, overrides: tuple[tuple[str, Any], ...]) -> None:
    """Check that the model's configuration has the requested values.

    Raises:
        ConfigError: transformers ignored a value that should replace one of ``config.json``.
    """
    for key, value in overrides:
        found = getattr(model.config, key, None)
        if found != value:
            raise ConfigError(
                f"{key}={value!r}: the loaded model has {key}={found!r}, so this cannot be given as an argument; change "
                "config.json in a copy of the checkpoint"
            )


def refuse_offloaded(model: nn.Module) -> None:
    """Check that every weight is in memory, where it can be modified.

    Raises:
        ConfigError: some were left on the disk (``parallelize``, ``device_map``).
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ConfigError(
            "some weights are offloaded to the disk, where they cannot be modified; leave parallelize and device_map out, or "
            "give more memory"
        )


def refuse_not_finite(model: nn.Module, what: str) -> None:
    """Check that every weight is a finite number.

    Args:
        model: the model to check; each parameter is read once.
        what: what produced the weights, for the message.

    Raises:
        DivergedError: some numbers are not finite; the message gives their count in the first such parameter.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.is_meta:  # the parameter is offloaded, so its numbers are not here
            continue
        # If the sum is finite, all numbers are finite. Otherwise the numbers are checked one by one.
        if bool(torch.isfinite(parameter.detach().sum(dtype=torch.float32))):
            continue
        wrong = int((~torch.isfinite(parameter.detach())).sum())
        if wrong:
            raise DivergedError(
                f"{what}: {wrong} of {parameter.numel()} numbers in {name} are not finite, so there is nothing to evaluate; "
                "choose a smaller strength or rate, or another checkpoint"
            )
