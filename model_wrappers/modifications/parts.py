"""What the class of a modification is made of: fields, axes, a cost, what it shares, and what applying it returns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from transformers import PreTrainedModel

__all__ = ["Axis", "Cost", "Modified", "Shared", "field"]


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field that studies vary, and how it is written and drawn.

    Attributes:
        field: of the modification.
        label: for people, e.g. ``learning rate``.
        unit: of its values, empty for a plain number.
        scale: of an axis in a figure.
        selected: whether a study chooses this field's value for every checkpoint, as the best learning rate.
    """

    field: str
    label: str
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    selected: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What applying a modification costs, beyond loading and evaluating the checkpoint. An estimate, good to a factor of two.

    Attributes:
        tokens: that pass through the model; None where nothing tells how many.
        flops_per_token: floating-point operations per token and parameter: 6 for training, 2 for a forward pass.
        kept_bytes_per_parameter: of weights that stay in the cache.
        unknown: what is not counted, in words, where ``tokens`` is None.
    """

    tokens: float | None = 0.0
    flops_per_token: float = 0.0
    kept_bytes_per_parameter: float = 0.0
    unknown: str = ""

    def flops(self, parameters: float) -> float:
        """Return the floating-point operations for a model of ``parameters``; unknown tokens count as none."""
        return (self.tokens or 0.0) * self.flops_per_token * parameters


class Shared(Protocol):
    """What several applications of one modification share in a process, e.g. random draws; see `Modification.shared`."""

    def in_use(self) -> AbstractContextManager[None]:
        """Let `Modification.apply` use it inside the block."""


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


def field(default: Any = dataclasses.MISSING, *, doc: str, identity: bool = True, file: bool = False) -> Any:
    """Declare a field of a modification.

    Args:
        default: its default; without one the user must give it.
        doc: one line for help texts and tables: meaning, unit, allowed range.
        identity: False for what only says where and how fast (a micro-batch, gradient checkpointing); such a field is
            not part of ``weights_id``.
        file: True for text that names a file, a folder or a data set; see `Modification.files`.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, "identity": identity, "file": file})
