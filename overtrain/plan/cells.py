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
        variant: name of the list of modifications; ``base`` for the unmodified checkpoint.
        modifications: in order, with their seeds. Modifications that change nothing are left out.
        seed: the seed of the modifications; None for the base.
        tasks: names of the tasks that are measured.
        evaluation: settings of the evaluation.
        base: the checkpoint before tuning, if this checkpoint was tuned elsewhere.
        fields: further columns of a checkpoint that was tuned elsewhere.
        setting: label of the point in the variant's grid, as `overtrain.plan.axes.grid_labels` writes it.
        curve: whether the cell is a point of the study's curves. An AlpacaEval reference with its own seed is not.
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
        """What the study asks for, as JSON data: without labels, and without settings that only decide where or how fast."""
        return {
            "checkpoint": self.point.spec(),
            "modifications": [{"modification": m.name} | m.asked_for() for m in self.modifications],
            "tasks": sorted(self.tasks),
            "evaluation": self.evaluation.identity(),
        }

    @functools.cached_property
    def key(self) -> str:
        """The sha256 of `spec`. It covers names and settings; ``cell_id`` also covers the contents of files."""
        return digest(self.spec)

    @property
    def checkpoint(self) -> str:
        """Label of the checkpoint. For a checkpoint that was tuned elsewhere, this is the label of its base."""
        return (self.base or self.point).label

    @property
    def label(self) -> str:
        """The label that people read and that ``--only`` matches: checkpoint, variant, point in the grid, seed."""
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
        """Return every field of every step. If several steps have a field of one name, later ones end in ``_2``, ``_3``, ...

        The cell's seed is not among them. A step with a different, fixed seed has a column such as ``seed_2``; the number
        is the step's position in the list.
        """
        found: dict[str, Value] = dict(self.fields)
        for column in columns_of([type(step) for step in self.modifications]):
            value = getattr(self.modifications[column.step], column.field)
            found[column.name] = "+".join(map(str, value)) if isinstance(value, tuple) else value
        own = {max(place, 2): m.seed for place, m in enumerate(self.modifications, start=1) if m.seed != self.seed}
        return found | {f"seed_{place}": seed for place, seed in own.items()}


def select_cells(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Return the cells that match any entry of ``only``: a variant, a checkpoint, or a pattern (``*``, ``?``) for the label.

    Raises:
        ConfigError: an entry matches no cell.
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
    """Return the modification with the cell's seed. If the study's file gives a seed (other than 0), that seed stays."""
    return modification if modification.seed != 0 else dataclasses.replace(modification, seed=seed)
