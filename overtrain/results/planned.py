"""Makes the record that a sweep writes from a study and its plan, and finds results that are outdated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from overtrain.plan.reference import generates
from overtrain.results.record import CellRecord, StudyRecord, VariantRecord, described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.plan.cells import Cell
    from overtrain.plan.jobs import Job, Plan
    from overtrain.results.store import Store
    from overtrain.study.study import Study

__all__ = ["refused", "study_record"]

_PARTS = {
    "weights": "weights, configuration or training data",
    "tasks": "evaluation rows or tasks",
    "dtype": "dtype",
    "tokenizer": "the tokenizer",
    "lm_eval": "the version of lm-eval",
}


def study_record(study: Study, cells: Sequence[Cell], plan: Plan | None = None) -> StudyRecord:
    """Return the record of a study for ``study.json``.

    Args:
        study: what was asked for.
        cells: all of the study's.
        plan: identities of the cells and why some have none; without a plan no cell has an identity.
    """
    jobs = {} if plan is None else {job.cell.key: job for job in plan.jobs}
    problems = {} if plan is None else plan.problems
    same = () if plan is None else tuple(c.key for c in cells if c.key not in jobs and c.key not in problems)
    kept = [cell for cell in cells if cell.key not in same]
    record = StudyRecord(
        name=study.name,
        description=study.description,
        tasks=study.tasks,
        seeds=study.seeds,
        budgets=tuple(sorted({p.tokens for p in study.points})),
        variants=tuple(VariantRecord(name=v.name, category="other") for v in study.variants),
        select=study.select,
        reference=study.reference,
        judge=study.judge,
        primary=study.primary,
        plateau_margin=study.plateau_margin,
        cells=tuple(_cell(cell, jobs.get(cell.key), problems.get(cell.key)) for cell in kept),
        same=same,
    )
    return described(record)


def _cell(cell: Cell, job: Job | None, problem: str | None) -> CellRecord:
    origin = cell.base or cell.point
    return CellRecord(
        key=cell.key,
        cell_id=job.cell_id if job else None,
        weights_id=job.weights_id if job else None,
        problem=problem,
        label=cell.label,
        checkpoint=cell.checkpoint,
        family=origin.family,
        run=origin.run,
        tokens=cell.point.tokens,
        checkpoint_learning_rate=cell.point.learning_rate,
        variant=cell.variant,
        modification=cell.modification,
        seed=cell.seed,
        fields=cell.columns(),
        answers=generates(cell),
        reference_only=not cell.curve,
    )


def refused(before: StudyRecord | None, plan: Plan, store: Store) -> list[str]:
    """Return a message for every finished cell whose weights, rows or versions have changed.

    Such a cell is not used any more: what is asked for now has another identity, and is evaluated again.
    """
    known = {cell.key: cell.cell_id for cell in (before.cells if before else ()) if cell.cell_id}
    messages: dict[str, int] = {}
    for job in plan.jobs:
        old = known.get(job.cell.key)
        if old is None or old == job.cell_id or store.state(old).status != "done":
            continue
        identity = json.loads(store.read(old, "spec.json"))["identity"]
        changed = [words for name, words in _PARTS.items() if identity.get(name) != job.identity[name]]
        message = f"{job.cell.checkpoint}, {job.cell.variant}: {' and '.join(changed)} changed since"
        messages[message] = messages.get(message, 0) + 1
    return [
        f"{count} finished cell{'s' if count > 1 else ''} of {text}; not reused" for text, count in messages.items()
    ]
