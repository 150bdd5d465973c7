"""The parts of a modification's class: fields, axes, costs, shared objects, and the result of applying it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from transformers import PreTrainedModel

__all__ = ["Axis", "Cost", "Modified", "Shared", "field"]


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field that studies vary, and how tables and figures show it.

    Attributes:
        field: name of the modification's field.
        label: text for people, e.g. ``learning rate``.
        unit: unit of the values; empty for a plain number.
        scale: scale of the axis in a figure.
        selected: whether a study selects the best value of this field for every checkpoint, such as the learning rate.
    """

    field: str
    label: str
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    selected: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """An estimate of the cost of applying a modification, in addition to loading and evaluating the checkpoint.

    Expect it to be right within a factor of two.

    Attributes:
        tokens: tokens that pass through the model; None if their number is unknown.
        flops_per_token: floating-point operations per token and parameter: 6 for training, 2 for a forward pass.
        kept_bytes_per_parameter: bytes per parameter of weights that stay in the cache.
        unknown: the cost that is not counted, in words, if ``tokens`` is None.
    """

    tokens: float | None = 0.0
    flops_per_token: float = 0.0
    kept_bytes_per_parameter: float = 0.0
    unknown: str = ""

    def flops(self, parameters: float) -> float:
        """Return the floating-point operations for a model of ``parameters``; unknown tokens count as none."""
        return (self.tokens or 0.0) * self.flops_per_token * parameters


class Shared(Protocol):
    """An object that a modification keeps between cells of one process, e.g. random draws; see `Modification.shared`."""

    def in_use(self) -> AbstractContextManager[None]:
        """Let `Modification.apply` use the object inside the block."""


class Modified(NamedTuple):
    """A modified model, with metrics and a record of the modification.

    Attributes:
        model: the given model or its replacement, in evaluation mode, with unchanged shapes and dtypes.
        metrics: numbers by name for the results JSON, e.g. ``train_loss`` (nats per token) or ``distance`` (L2).
        record: further JSON data: the training log, the hash and template of the data, the source of a scale.
    """

    model: PreTrainedModel
    metrics: dict[str, float]
    record: dict[str, Any] = {}  # noqa: RUF012  (a NamedTuple default, never written to)


def field(default: Any = dataclasses.MISSING, *, doc: str, identity: bool = True, file: bool = False) -> Any:
    """Declare a field of a modification.

    Args:
        default: the default; without a default, the user must give a value.
        doc: one line for help texts and tables: meaning, unit, allowed range.
        identity: False for a field that only decides where or how fast (a micro-batch, gradient checkpointing); such a
            field is not part of ``weights_id``.
        file: True if the value names a file, a folder or a data set; see `Modification.files`.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, "identity": identity, "file": file})
