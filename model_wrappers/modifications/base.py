"""The base class of modifications: fields, declarations for other modules, and the change to a model.

A modification is one file with one `Modification` subclass, in this folder or in a user's own package; see
`model_wrappers.modifications.registry`. The fields of the class are its ``--model_args``, its YAML keys and its Python
arguments. The class declares everything that other modules need to know about the modification. No other module names its
fields or compares its name.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping  # noqa: TC003  (read at run time by get_type_hints)
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from model_wrappers.coerce import coerce
from model_wrappers.digests import content_digest
from model_wrappers.errors import ConfigError, close_match
from model_wrappers.files import exists
from model_wrappers.generators import isolated_generators
from model_wrappers.modifications.parts import Axis, Cost, Modified, Shared, field

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from model_wrappers.checkpoints.checkpoint import Checkpoint

__all__ = ["Axis", "Cost", "Modification", "Modified", "Shared", "field", "isolated_generators"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modification(ABC):
    """One change to a checkpoint's weights, described by frozen fields.

    Class attributes:
        name: the name that users type (``kind=gaussian``, ``- gaussian: {gamma: 0.1}``).
        source: the section of the paper, or the URL, that defines the modification.
        neutral: field values at which the modification changes nothing; None if there are no such values.
        materialise: True if the modification trains. Then its result is kept in the weights cache and always loaded from
            there. False if it is cheap enough to be repeated at every load.
        category: group of the modification in reports: ``noise``, ``finetune``, ``compression``, ``merging``, or a new word.
        axes: the fields that studies vary, the most usual one first.
        random: whether the seed can change the result; see `is_random`.
        metrics: names of the numbers that `apply` measures, so that a study cannot select by one that there is not; the
            part before a ``/``. Empty if they are not declared.
        preferred: whether this modification is chosen if the arguments of a command line fit several equally well.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    category: ClassVar[str]
    axes: ClassVar[tuple[Axis, ...]] = ()
    random: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ()
    preferred: ClassVar[bool] = False
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
        """Raise `ConfigError` for field values of the right type that the modification does not allow."""

    @abstractmethod
    def apply(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        checkpoint: Checkpoint,
        *,
        work: Path | None = None,
    ) -> Modified:
        """Return the modified model. The states of the global random generators must not change.

        Args:
            model: the model to change, in evaluation mode; it may be changed in place.
            tokenizer: the checkpoint's tokenizer.
            checkpoint: the origin of the weights, for files beside them (initial deviations, a step-0 revision).
            work: a folder for intermediate states that stays if the process is killed, or None.
        """

    def is_neutral(self) -> bool:
        """Return whether the modification changes nothing with these fields, so that ``weights_id`` leaves it out."""
        return self.neutral is not None and all(getattr(self, name) == value for name, value in self.neutral.items())

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Return the fields that name files, folders or data sets.

        Four things follow for such a field. A study resolves a relative path from the folder of its YAML file. ``weights_id``
        contains the contents of the file (`content`) instead of its path. A finished cell is checked again when the file
        changes. ``overtrain validate`` calls `problems`.
        """
        return tuple(f.name for f in dataclasses.fields(cls) if f.metadata["file"])

    @classmethod
    def content_fields(cls) -> tuple[str, ...]:
        """Return the fields that `content` depends on: those of `files`, and those that choose what is read from the files."""
        return cls.files()

    def content(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:  # noqa: ARG002
        """Return the contents of the files, as JSON data for ``weights_id``: by default, the sha256 of each local file.

        The result depends only on `content_fields` and the tokenizer, so a study reads each file once for all its cells.
        """
        return {
            name: None if (value := getattr(self, name)) is None else content_digest(Path(str(value)))
            for name in self.files()
        }

    def other_checkpoints(self, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:  # noqa: ARG002
        """Return further checkpoints that the modification reads; ``weights_id`` contains their identities.

        Args:
            checkpoint: the checkpoint to modify.

        Raises:
            CheckpointError: a further checkpoint cannot be found.
        """
        return ()

    def missing_files(self) -> list[str]:
        """Return a message for every file that a field names and that does not exist; nothing is downloaded.

        By default, a value is a path if it begins with ``/``, ``.`` or ``~``. Any other value may name a data set.
        """
        named = {name: str(getattr(self, name)) for name in self.files() if getattr(self, name) is not None}
        return [
            f"{name}={value!r}: no such file or folder; give a path that exists, seen from {Path.cwd()}"
            for name, value in named.items()
            if value.startswith(("/", ".", "~")) and not exists(Path(value))
        ]

    def is_random(self, checkpoint: Checkpoint | None) -> bool:  # noqa: ARG002
        """Say whether the seed changes the result. Where it does not, cells that differ only in the seed are one cell.

        Everyone who counts cells or names weights asks this, so the answer must not depend on who asks, and nothing large
        may be read or downloaded for it.

        Args:
            checkpoint: the checkpoint to modify; None for one that is still to be pre-trained.
        """
        return self.random

    def problems(self, checkpoint: Checkpoint | None) -> list[str]:  # noqa: ARG002
        """Return a message for everything that would make `apply` fail and can be known now; nothing is downloaded.

        ``overtrain validate`` calls it for every checkpoint of a study. By default: `missing_files`.

        Args:
            checkpoint: the checkpoint to modify; None for one that is still to be pre-trained.
        """
        return self.missing_files()

    def remarks(self, checkpoint: Checkpoint | None) -> list[str]:  # noqa: ARG002
        """Return what is worth knowing before anything is spent, though nothing fails; as `problems` otherwise."""
        return []

    def cost(self, checkpoint: Checkpoint | None) -> Cost:  # noqa: ARG002
        """Return the cost of applying the modification: by default none beyond one pass over the weights.

        Args:
            checkpoint: the checkpoint to modify, which may not be downloaded yet; None if it is not pre-trained yet.
        """
        return Cost()

    @classmethod
    def shared(cls) -> Shared | None:
        """Return a new object that the cells of one process share; it is in use during every `apply`. None for nothing."""
        return None

    def prompt_template(self, record: Mapping[str, Any]) -> str | None:  # noqa: ARG002
        """Return the template that the modified model expects for instructions; None if the modification teaches none.

        Args:
            record: the `Modified.record` that `apply` returned.
        """
        return None

    def identity(
        self,
        checkpoint: Checkpoint,
        tokenizer: PreTrainedTokenizerBase,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return everything except the weights that determines the result: the modification's part of ``weights_id``.

        Args:
            checkpoint: the checkpoint to modify.
            tokenizer: the checkpoint's tokenizer.
            content: the result of `content`, if the caller already has it.
        """
        read = self.content(tokenizer) if content is None else dict(content)
        others = [other.identity() for other in self.other_checkpoints(checkpoint)]
        asked = self.asked_for()
        if not self.is_random(checkpoint):
            asked.pop("seed", None)
        found = {"modification": self.name} | asked | read | ({"other_checkpoints": others} if others else {})
        source = self.implementation()
        return found | ({"implementation": source} if source else {})

    @classmethod
    def implementation(cls) -> str | None:
        """Return a hash of the file that defines the class; None for this package's own modifications.

        If a user changes the code of a modification, the same fields give other results, so these get other ids.
        """
        if cls.__module__.startswith("model_wrappers."):
            return None
        try:
            return content_digest(Path(inspect.getfile(cls)))
        except (TypeError, OSError):  # defined in a notebook: there is no file
            return None

    def asked_for(self) -> dict[str, Any]:
        """Return the fields that can determine the result; without the seed of a modification that is never random."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.metadata["identity"] and (self.random or f.name != "seed")
        }

    def describe(self) -> dict[str, Any]:
        """Return the name and every field as JSON data, for the results."""
        return {"modification": self.name} | dataclasses.asdict(self)

    @classmethod
    def fields(cls) -> dict[str, str]:
        """Return each field's name and one-line description, in order of declaration.

        >>> from model_wrappers.modifications.registry import registry
        >>> list(registry()["gaussian"].fields())[:2]
        ['seed', 'gamma']
        """
        return {f.name: f.metadata["doc"] for f in dataclasses.fields(cls)}

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """Return the fields without a default, in order of declaration."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING)

    @classmethod
    def axis(cls, name: str) -> Axis:
        """Return the axis of a field: the declared one, or else a linear axis with the field's name as its label."""
        return next((a for a in cls.axes if a.field == name), Axis(name, name.replace("_", " ")))

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Modification:
        """Build the modification from ``--model_args`` or YAML values.

        Raises:
            ConfigError: a name is unknown (the message names the closest one), a required field is missing, or a value has
                the wrong type or is out of range.
        """
        known = cls.fields()
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"unknown argument {name!r} of {cls.name}{close_match(name, known)} (allowed: {', '.join(known)})"
                )
        missing = [name for name in cls.required() if given.get(name) is None]
        if missing:
            raise ConfigError(
                f"{cls.name} needs {', '.join(missing)}: {'; '.join(f'{m}: {known[m]}' for m in missing)}; add "
                + ", ".join(f"{m}=..." for m in missing)
            )
        return cls(**given)  # type: ignore[arg-type]


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)
