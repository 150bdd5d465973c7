"""From a study to its cells: one checkpoint, one list of modifications, one seed, all tasks."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, close_match
from model_wrappers.identity import digest
from overtrain.reference import reference_cell
from overtrain.study import BASE, Evaluation, Point, Study
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model_wrappers.modifications.base import Modification

__all__ = ["Cell", "expand", "seeded", "select_cells"]


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
            "evaluation": self.evaluation.spec(),
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


def expand(study: Study) -> list[Cell]:
    """Return the cells of ``study``, checkpoint by checkpoint, its base cell first.

    A modification at its neutral values is the identity: its cell is the base cell. Cells with the same key are one, the
    first one's labels stay. A reference of AlpacaEval with a seed of its own comes last. Cells that are not tuned answer no
    instructions, unless ``metadata`` names a template: there would be none to write the prompt with.

    Raises:
        ConfigError: without the instructions such cells have nothing left to measure.
    """
    cells: dict[str, Cell] = {}
    for cell in _all(study):
        cells.setdefault(cell.key, cell)
    for cell in reference_cell(study, list(cells.values())):
        cells.setdefault(cell.key, cell)
    return list(cells.values())


def _all(study: Study) -> Iterator[Cell]:
    common: dict[str, Any] = {"evaluation": study.evaluation}
    untuned = _untuned_tasks(study)
    for point in study.points:
        yield Cell(point=point, variant=BASE, tasks=untuned, **common)
        for variant in study.variants:
            for steps in variant.grid:
                for seed in variant.seeds:
                    own = tuple(seeded(m, seed) for m in steps if not m.is_neutral())
                    if own:
                        tasks = study.tasks if any(m.materialise for m in own) else untuned
                        yield Cell(
                            point=point, variant=variant.name, modifications=own, seed=seed, tasks=tasks, **common
                        )
        for tuned in study.tuned:
            if tuned.base.spec() == point.spec():
                yield Cell(
                    point=tuned.point,
                    variant=tuned.variant,
                    seed=tuned.seed,
                    base=tuned.base,
                    fields=tuned.fields,
                    tasks=study.tasks,
                    **common,
                )


def _untuned_tasks(study: Study) -> tuple[str, ...]:
    """Return what a cell measures that is not tuned."""
    if study.evaluation.metadata.get("template"):
        return study.tasks
    left = tuple(task for task in study.tasks if task != TASK)
    if not left:
        raise ConfigError(
            f"tasks: {TASK} alone leaves checkpoints that are not tuned with nothing to measure; add a task that they can "
            "do, such as overtrain_text, or name a template for them: evaluation: {metadata: {template: alpaca}}"
        )
    return left


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
