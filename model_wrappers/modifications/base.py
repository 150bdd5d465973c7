"""What a modification is, how its fields are read, and how its file is found.

A modification is one file in this folder with one `Modification` subclass. Nothing lists them: `registry` imports every
module of the package, so a new file is the whole of adding one. The fields of the class are its ``--model_args``, its
YAML keys and its Python arguments.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping  # noqa: TC003  (read at run time by get_type_hints)
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, close_match

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from model_wrappers.checkpoints.checkpoint import Checkpoint

__all__ = ["Modification", "Modified", "field", "registry"]


class Modified(NamedTuple):
    """A modified model and what is worth recording of how it came about.

    Attributes:
        model: the same object that went in, or its replacement; in evaluation mode, shapes and dtypes as they were.
        metrics: flat numbers for the results JSON, e.g. ``train_loss`` (nats per token) or ``distance`` (L2).
        record: JSON data beyond numbers: the training log, the data's hash and template, the source of a scale.
    """

    model: PreTrainedModel
    metrics: dict[str, float]
    record: dict[str, Any] = {}  # noqa: RUF012  (a NamedTuple default, never written to)


def field(default: Any = dataclasses.MISSING, *, doc: str, identity: bool = True) -> Any:
    """Declare a field of a modification.

    Args:
        default: its default; without one the user must give it.
        doc: one line for help texts and tables: meaning, unit, allowed range.
        identity: False for what only says where and how fast (a micro-batch, gradient checkpointing); such a field is
            not part of ``weights_id``.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, "identity": identity})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modification(ABC):
    """One change to a checkpoint's weights, described by frozen fields.

    Class attributes:
        name: what users type (``kind=gaussian``, ``- gaussian: {gamma: 0.1}``).
        source: the section of the paper, or the URL, that defines it.
        neutral: field values at which it is the identity, or None where there are none.
        materialise: True when applying it is training, whose outcome is kept in the weights cache and always read back
            from there; False when it is cheap enough to repeat at every load.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    neutral: ClassVar[Mapping[str, object] | None] = None
    materialise: ClassVar[bool] = False

    seed: int = field(0, doc="seed of every random choice the modification makes")

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, coerce(f.name, getattr(self, f.name), _annotations(type(self))[f.name]))
        if self.seed < 0 or self.seed >= 2**32:
            raise ConfigError(f"seed={self.seed}: must be an integer from 0 to 2**32 - 1; give one in that range")
        self.check()

    def check(self) -> None:  # noqa: B027  (optional: most fields are bounded by their type alone)
        """Raise `ConfigError` for field values that their types allow but the modification does not."""

    @abstractmethod
    def apply(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        checkpoint: Checkpoint,
        *,
        work: Path | None = None,
    ) -> Modified:
        """Return the modified model; the global random generators are left as they were.

        Args:
            model: the weights to change, in evaluation mode; may be changed in place.
            tokenizer: the checkpoint's own.
            checkpoint: where the weights came from, for what lies beside them (initial deviations, a step-0 revision).
            work: a folder for intermediate states that outlives a killed process, or None.
        """

    def is_neutral(self) -> bool:
        """Tell whether the fields make this the identity, so that it can be left out of ``weights_id``."""
        return self.neutral is not None and all(getattr(self, name) == value for name, value in self.neutral.items())

    def identity(self, checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:  # noqa: ARG002
        """Return what determines the outcome besides the weights, as JSON data: the modification's part of ``weights_id``."""
        return {"modification": self.name} | {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["identity"]
        }

    def describe(self) -> dict[str, Any]:
        """Return name and every field as JSON data, for the results."""
        return {"modification": self.name} | dataclasses.asdict(self)

    @classmethod
    def fields(cls) -> dict[str, str]:
        """Return each field's name and one-line description, in order of declaration.

        >>> list(registry()["gaussian"].fields())[:2]
        ['seed', 'gamma']
        """
        return {f.name: f.metadata["doc"] for f in dataclasses.fields(cls)}

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Modification:
        """Build the modification from ``--model_args`` or YAML values.

        Raises:
            ConfigError: an unknown name (with the closest match), a missing one, a wrong type or a value out of range.
        """
        known = cls.fields()
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"unknown argument {name!r} of {cls.name}{close_match(name, known)} (allowed: {', '.join(known)})"
                )
        required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
        missing = [name for name in required if given.get(name) is None]
        if missing:
            raise ConfigError(
                f"{cls.name} needs {', '.join(missing)}: {'; '.join(f'{m}: {known[m]}' for m in missing)}; add "
                + ", ".join(f"{m}=..." for m in missing)
            )
        return cls(**given)  # type: ignore[arg-type]


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def registry() -> dict[str, type[Modification]]:
    """Return every modification of this package by name, in alphabetical order.

    Modules are imported, torch is not: a modification imports it inside `Modification.apply`.
    """
    package = importlib.import_module("model_wrappers.modifications")
    found: dict[str, type[Modification]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        for value in vars(importlib.import_module(f"{package.__name__}.{module}")).values():
            if isinstance(value, type) and issubclass(value, Modification) and "name" in vars(value):
                found[value.name] = value
    return dict(sorted(found.items()))
