"""From a study to its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError
from overtrain.plan.axes import grid_labels
from overtrain.plan.cells import Cell, seeded
from overtrain.plan.located import checkpoint_of
from overtrain.plan.reference import reference_cell
from overtrain.study.study import BASE
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model_wrappers.modifications.base import Modification
    from overtrain.study.study import Point, Study

__all__ = ["expand"]


def expand(study: Study) -> list[Cell]:
    """Return the cells of ``study``, ordered by checkpoint. The base cell of a checkpoint comes first.

    - A modification at its neutral values changes nothing, so its cell is the base cell.
    - Where nothing in a variant's steps is random, there is one cell for all seeds, with the first one's label.
    - Cells with equal keys become one cell, with the labels of the first.
    - An AlpacaEval reference with its own seed comes last.
    - Cells without tuning do not answer AlpacaEval's instructions, because they have no template for the prompt. If the
      evaluation's ``metadata`` names a template, they answer too.

    Raises:
        ConfigError: AlpacaEval is the only task, so cells without tuning would measure nothing.
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
    labels = {variant.name: grid_labels(variant.grid) for variant in study.variants}
    for point in study.points:
        yield Cell(point=point, variant=BASE, tasks=untuned, **common)
        for variant in study.variants:
            for steps, setting in zip(variant.grid, labels[variant.name], strict=True):
                for seed in _seeds(point, steps, variant.seeds):
                    own = tuple(seeded(m, seed) for m in steps if not m.is_neutral())
                    if own:
                        tasks = study.tasks if any(m.materialise for m in own) else untuned
                        yield Cell(
                            point=point,
                            variant=variant.name,
                            modifications=own,
                            seed=seed,
                            tasks=tasks,
                            setting=setting,
                            **common,
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


def _seeds(point: Point, steps: Sequence[Modification], seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Return the seeds whose results differ: the first one alone if nothing in the steps is random."""
    if len(seeds) == 1:
        return seeds
    checkpoint = None if point.ladder is not None else checkpoint_of(point)
    return seeds if any(m.is_random(checkpoint) for m in steps if not m.is_neutral()) else seeds[:1]


def _untuned_tasks(study: Study) -> tuple[str, ...]:
    """Return the tasks of cells without tuning."""
    if study.evaluation.metadata.get("template"):
        return study.tasks
    left = tuple(task for task in study.tasks if task != TASK)
    if not left:
        raise ConfigError(
            f"tasks: {TASK} alone leaves checkpoints that are not tuned with nothing to measure; add a task that they can "
            "do, such as overtrain_text, or name a template for them: evaluation: {metadata: {template: alpaca}}"
        )
    return left
