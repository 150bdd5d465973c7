"""A cell of a study: one checkpoint, one list of modifications, one seed, all tasks."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, close_match
from model_wrappers.identity import digest
from overtrain.plan.axes import columns_of
from overtrain.study.study import BASE, Point

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_wrappers.modifications.base import Modification
    from overtrain.common.typed_json import Value
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
        setting: what the variant's grid varies, as `overtrain.plan.axes.grid_labels` writes it.
        curve: whether it is a point of the study's curves; a reference with a seed of its own is none.
    """

    point: Point
    variant: str
    modifications: tuple[Modification, ...] = ()
    seed: int | None = None
    tasks: tuple[str, ...]
    evaluation: Evaluation
    base: Point | None = None
    fields: Mapping[str, Value] = field(default_factory=dict)
    setting: str = ""
    curve: bool = True

    @functools.cached_property
    def spec(self) -> dict[str, Any]:
        """What is asked for, as JSON data: no labels, and nothing that only says where or how fast."""
        return {
            "checkpoint": self.point.spec(),
            "modifications": [{"modification": m.name} | m.asked_for() for m in self.modifications],
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
        """For people and for ``--only``: checkpoint, variant, what the variant's grid varies, seed."""
        words = [self.checkpoint, self.variant]
        if self.base is not None:
            words.append(self.point.label)
        words += [self.setting] if self.setting else []
        if self.seed is not None:
            words.append(f"seed={self.seed}")
        return " ".join(words)

    @property
    def modification(self) -> str:
        """Names of the steps joined by ``+``, ``base`` for none."""
        if self.base is not None:
            return "tuned"
        return "+".join(m.name for m in self.modifications) or BASE

    def columns(self) -> dict[str, Value]:
        """Return every field of every step; one that a later step has too gets the suffix ``_2`` (``_3``, ...).

        The seed is the cell's; a step that fixes another has a column ``seed_2`` by its place in the list.
        """
        found: dict[str, Value] = dict(self.fields)
        for column in columns_of([type(step) for step in self.modifications]):
            value = getattr(self.modifications[column.step], column.field)
            found[column.name] = "+".join(map(str, value)) if isinstance(value, tuple) else value
        own = {max(place, 2): m.seed for place, m in enumerate(self.modifications, start=1) if m.seed != self.seed}
        return found | {f"seed_{place}": seed for place, seed in own.items()}


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
