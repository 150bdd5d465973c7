"""A cell of a study: one checkpoint, one list of modifications, one seed, all tasks."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, close_match
from model_wrappers.identity import digest
from overtrain.study.study import BASE, Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_wrappers.modifications.base import Modification
    from overtrain.study.settings import Evaluation

__all__ = ["Cell", "seeded", "select_cells"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One evaluation.

    Attributes:
        point: the checkpoint.
        variant: name of the list of modifications; ``base`` for the checkpoint as it is.
        modifications: in order, seeds set; those that are the identity left out.
        seed: of the modifications; None for the base.
        tasks: what is measured.
        evaluation: how.
        base: of a checkpoint that was tuned elsewhere, what it was made from.
        fields: further columns of a checkpoint that was tuned elsewhere.
        curve: whether it is a point of the study's curves; a reference with a seed of its own is none.
    """

    point: Point
    variant: str
    modifications: tuple[Modification, ...] = ()
    seed: int | None = None
    tasks: tuple[str, ...]
    evaluation: Evaluation
    base: Point | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    curve: bool = True

    @functools.cached_property
    def spec(self) -> dict[str, Any]:
        """What is asked for, as JSON data: no labels, and nothing that only says where or how fast."""
        return {
            "checkpoint": self.point.spec(),
            "modifications": [_identity_fields(m) for m in self.modifications],
            "tasks": sorted(self.tasks),
            "evaluation": self.evaluation.identity(),
        }

    @functools.cached_property
    def key(self) -> str:
        """The sha256 of `spec`: names what is asked for, whatever files the names lead to (`cell_id` covers those)."""
        return digest(self.spec)

    @property
    def checkpoint(self) -> str:
        """Label of the checkpoint; of one that was tuned elsewhere, of its base."""
        return (self.base or self.point).label

    @property
    def label(self) -> str:
        """For people and for ``--only``: checkpoint, variant, what the grid varies, seed."""
        words = [self.checkpoint, self.variant]
        if self.base is not None:
            words.append(self.point.label)
        for name in ("gamma", "learning_rate", "bits", "sparsity", "alpha", "data", "lora_rank"):
            values = [getattr(m, name) for m in self.modifications if hasattr(m, name)]
            words += [f"{name}={_short(value)}" for value in values]
        if self.seed is not None:
            words.append(f"seed={self.seed}")
        return " ".join(words)

    @property
    def modification(self) -> str:
        """Names of the steps joined by ``+``, ``base`` for none."""
        if self.base is not None:
            return "tuned"
        return "+".join(m.name for m in self.modifications) or BASE

    def columns(self) -> dict[str, Any]:
        """Return every field of every step; one that a later step has too gets the suffix ``_2`` (``_3``, ...).

        The seed is the cell's; a step that fixes another has a column ``seed_2`` by its place in the list.
        """
        found: dict[str, Any] = dict(self.fields)
        for place, step in enumerate(self.modifications, start=1):
            for name, value in step.describe().items():
                if name == "modification":
                    continue
                if name == "seed":
                    if value != self.seed:
                        found[f"seed_{max(place, 2)}"] = value
                    continue
                column, number = name, 2
                while column in found:
                    column, number = f"{name}_{number}", number + 1
                found[column] = "+".join(map(str, value)) if isinstance(value, list | tuple) else value
        return found


def select_cells(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Return the cells that any of ``only`` names: a variant, a checkpoint, or a pattern (``*``, ``?``) for the label.

    Raises:
        ConfigError: a pattern names none.
    """
    if not only:
        return list(cells)
    chosen: dict[str, Cell] = {}
    for pattern in only:
        found = [
            c
            for c in cells
            if pattern in {c.variant, c.checkpoint, c.point.family} or fnmatch.fnmatch(c.label, f"*{pattern}*")
        ]
        if not found:
            names = sorted({n for c in cells for n in (c.variant, c.checkpoint)})
            raise ConfigError(
                f"only={pattern!r}: no cell{close_match(pattern, names)}; give a variant, a checkpoint or a pattern for "
                f"labels such as {cells[-1].label!r}"
            )
        chosen |= {c.key: c for c in found}
    return [c for c in cells if c.key in chosen]


def seeded(modification: Modification, seed: int) -> Modification:
    """Return the modification with the cell's seed; one that the file gives (other than the default 0) stays."""
    return modification if modification.seed != 0 else dataclasses.replace(modification, seed=seed)


def _identity_fields(modification: Modification) -> dict[str, Any]:
    own = {f.name: getattr(modification, f.name) for f in dataclasses.fields(modification) if f.metadata["identity"]}
    return {"modification": modification.name} | own


def _short(value: Any) -> str:
    text = str(value)
    return text.rpartition("/")[2] if "/" in text else text
