"""What a modification is: its fields, what it says about itself, and what it does to a model.

A modification is one file with one `Modification` subclass, in this folder or in a package of the user's own; see
`model_wrappers.modifications.registry`. The fields of the class are its ``--model_args``, its YAML keys and its Python
arguments. Everything that other modules need to know about a modification is said by its class: no other module names its
fields or compares its name.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping  # noqa: TC003  (read at run time by get_type_hints)
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from model_wrappers.coerce import coerce
from model_wrappers.digests import content_digest
from model_wrappers.errors import ConfigError, close_match
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
        name: what users type (``kind=gaussian``, ``- gaussian: {gamma: 0.1}``).
        source: the section of the paper, or the URL, that defines it.
        neutral: field values at which it is the identity, or None where there are none.
        materialise: True when applying it is training, whose outcome is kept in the weights cache and always read back
            from there; False when it is cheap enough to repeat at every load.
        category: how reports group it: ``noise``, ``finetune``, ``compression``, ``merging``, or a word of your own.
        axes: the fields that studies vary, the usual one first.
        random: whether the seed changes the outcome; where it does not, cells that differ in the seed alone are one.
        preferred: whether it is meant where the arguments of a command line fit several modifications equally well.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    category: ClassVar[str]
    axes: ClassVar[tuple[Axis, ...]] = ()
    random: ClassVar[bool] = True
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

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Return the fields that name files, folders or data sets.

        A study resolves a relative path beside its YAML file; ``weights_id`` contains what the file holds (`content`)
        instead of its path; a finished cell is looked at again when the file changes; ``overtrain validate`` calls
        `missing_files`.
        """
        return tuple(f.name for f in dataclasses.fields(cls) if f.metadata["file"])

    @classmethod
    def content_fields(cls) -> tuple[str, ...]:
        """Return the fields that `content` depends on: those of `files`, and those that say what is read of the files."""
        return cls.files()

    def content(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:  # noqa: ARG002
        """Return what the files hold, as JSON data for ``weights_id``: here the sha256 of each one that is local.

        It depends on `content_fields` and the tokenizer alone, so a study reads each file once for all its cells.
        """
        return {
            name: None if (value := getattr(self, name)) is None else content_digest(Path(str(value)))
            for name in self.files()
        }

    def other_checkpoints(self, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:  # noqa: ARG002
        """Return the checkpoints that it reads beside the one it is applied to; ``weights_id`` contains what they are.

        Args:
            checkpoint: what it is applied to.

        Raises:
            CheckpointError: one of them cannot be found.
        """
        return ()

    def missing_files(self) -> list[str]:
        """Return a message for every file that a field names and that is not there; nothing is downloaded.

        Here a value counts as a path where it begins with ``/``, ``.`` or ``~``; anything else may name a data set.
        """
        named = {name: str(getattr(self, name)) for name in self.files() if getattr(self, name) is not None}
        return [
            f"{name}={value!r}: no such file or folder; give a path that exists, seen from {Path.cwd()}"
            for name, value in named.items()
            if value.startswith(("/", ".", "~")) and not Path(value).expanduser().exists()
        ]

    def cost(self, checkpoint: Checkpoint | None) -> Cost:  # noqa: ARG002
        """Return what applying it costs: the least where it only goes through the weights once.

        Args:
            checkpoint: what it is applied to, not necessarily downloaded; None for one that is still to be pre-trained.
        """
        return Cost()

    @classmethod
    def shared(cls) -> Shared | None:
        """Return something new for the cells of one process to share, used around every `apply`; None for nothing."""
        return None

    def prompt_template(self, record: Mapping[str, Any]) -> str | None:  # noqa: ARG002
        """Return the template that instructions must be written with afterwards, None if it taught none.

        Args:
            record: of `Modified`, as `apply` gave it.
        """
        return None

    def identity(
        self,
        checkpoint: Checkpoint,
        tokenizer: PreTrainedTokenizerBase,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return what determines the outcome besides the weights, as JSON data: the modification's part of ``weights_id``.

        Args:
            checkpoint: what it is applied to.
            tokenizer: the checkpoint's own.
            content: of `content`, where the caller has it already.
        """
        read = self.content(tokenizer) if content is None else dict(content)
        others = [other.identity() for other in self.other_checkpoints(checkpoint)]
        return {"modification": self.name} | self.asked_for() | read | ({"other_checkpoints": others} if others else {})

    def asked_for(self) -> dict[str, Any]:
        """Return the fields that determine the outcome; the seed is left out where nothing is random."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.metadata["identity"] and (self.random or f.name != "seed")
        }

    def describe(self) -> dict[str, Any]:
        """Return name and every field as JSON data, for the results."""
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
        """Return the axis of a field: as the class declares it, else a linear one called after the field."""
        return next((a for a in cls.axes if a.field == name), Axis(name, name.replace("_", " ")))

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
