"""The reference of AlpacaEval's win rates: the tuned checkpoint whose answers all other answers are compared with.

Every family and variant has one reference cell, with the same architecture and the same fine-tuning data. By default, the
reference is the cell with the middle learning rate of the grid (the lower middle, if the number is even) at the last
checkpoint, first run, first seed. A study can name another reference under ``reference``, and the command line can name one
cell of one variant. If the reference has a seed that the study does not have, it is an additional cell: it generates
answers, but it is not a point of any curve. Then no point of a curve has to be left out.

The choice depends on labels alone (`Candidate`), so it works for the cells of a plan and for the records of a finished study.

Source: Springer et al. (2025), Appendix B.3: the reference has one fixed seed and learning rate.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from model_wrappers.errors import close_match
from overtrain.plan.axes import axes_of_columns, data_of_columns, selected_value
from overtrain.plan.cells import seeded
from overtrain.study.settings import ReferenceChoice
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from model_wrappers.modifications.base import Modification
    from overtrain.common.typed_json import Value
    from overtrain.plan.cells import Cell
    from overtrain.study.study import Study

__all__ = ["Candidate", "applies", "choose", "generates", "grouped", "reference_cell", "reference_problems"]


class Candidate(Protocol):
    """The labels that the choice of a reference depends on; `overtrain.results.record.CellRecord` explains them."""

    @property
    def checkpoint(self) -> str: ...  # noqa: D102
    @property
    def family(self) -> str: ...  # noqa: D102
    @property
    def run(self) -> str: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def variant(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int | None: ...  # noqa: D102
    @property
    def fields(self) -> Mapping[str, Value]: ...  # noqa: D102
    @property
    def selected(self) -> float | None: ...  # noqa: D102
    @property
    def data(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def reference_only(self) -> bool: ...  # noqa: D102


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True, kw_only=True)
class _LabelledCell:
    """A cell of a plan, with the labels of a `Candidate`."""

    cell: Cell
    checkpoint: str
    family: str
    run: str
    tokens: int
    variant: str
    seed: int | None
    fields: Mapping[str, Value]
    selected: float | None
    data: tuple[str, ...]
    reference_only: bool


def generates(cell: Cell) -> bool:
    """Return whether a cell's answers are judged: the cell is tuned, and `TASK` is among its tasks."""
    tuned = cell.base is not None or any(m.materialise for m in cell.modifications)
    return tuned and TASK in cell.tasks


def grouped(candidates: Iterable[C]) -> list[list[C]]:
    """Return the candidates in groups of equal family, variant and fine-tuning data; the order is kept."""
    found: dict[tuple[str, str, tuple[str, ...]], list[C]] = {}
    for each in candidates:
        found.setdefault((each.family, each.variant, each.data), []).append(each)
    return list(found.values())


def applies(members: Sequence[Candidate], wanted: ReferenceChoice | None) -> bool:
    """Return whether the study's ``reference`` is in this group, by its variant, checkpoint and fields."""
    if wanted is None or wanted == ReferenceChoice() or wanted.variant not in {None, members[0].variant}:
        return False
    at = [e for e in members if wanted.checkpoint is None or _is_checkpoint(e, wanted.checkpoint)]
    return any(_has(e, wanted.fields) for e in at)


def choose(members: Sequence[C], wanted: ReferenceChoice | None) -> C:
    """Return the candidate of a group that ``wanted`` names. Where ``wanted`` leaves a choice open, the default applies."""
    wanted = wanted or ReferenceChoice()
    left = [e for e in members if not e.reference_only or e.seed == wanted.seed]
    if wanted.checkpoint is None:
        left = [e for e in left if e.tokens == max(x.tokens for x in left)]
    else:
        left = [e for e in left if _is_checkpoint(e, wanted.checkpoint)]
    left = [e for e in left if e.run == left[0].run and _has(e, wanted.fields)]
    values = sorted({e.selected for e in left if e.selected is not None})
    if values:
        middle = values[(len(values) - 1) // 2]
        left = [e for e in left if e.selected == middle]
    return next((e for e in left if wanted.seed is not None and e.seed == wanted.seed), left[0])


def reference_cell(study: Study, cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells that ``reference: {seed: ...}`` adds: one for each group whose variant lacks that seed.

    `TASK` is the only task of these cells.

    Args:
        study: the study, with its ``reference``.
        cells: all other cells of the study.
    """
    wanted = study.reference
    if wanted is None or wanted.seed is None:
        return []
    added = []
    for members in grouped(_labelled(cell) for cell in cells if generates(cell)):
        if not applies(members, wanted) or any(e.seed == wanted.seed for e in members):
            continue
        like = choose(members, dataclasses.replace(wanted, seed=None)).cell
        steps = _unseeded(study, like)
        if steps is not None:
            own = tuple(seeded(m, wanted.seed) for m in steps)
            if own != like.modifications:
                added.append(dataclasses.replace(like, modifications=own, seed=wanted.seed, tasks=(TASK,), curve=False))
    return added


def reference_problems(study: Study, cells: Iterable[Cell]) -> list[str]:
    """Return the problems of a study's ``reference``: no cell generates answers, or it names a cell that does not exist.

    Args:
        study: the study, with its ``reference``.
        cells: the cells of the study.
    """
    wanted = study.reference or ReferenceChoice()
    answering = [cell for cell in cells if generates(cell) and cell.curve]
    if not answering:
        return [f"reference: nothing is tuned and asked for answers; give a tuned variant and the task {TASK}"]
    members = grouped(_labelled(cell) for cell in answering)
    if wanted.variant is not None and wanted.variant not in {m[0].variant for m in members}:
        known = sorted({m[0].variant for m in members})
        near = close_match(wanted.variant, known)
        return [f"reference.variant={wanted.variant!r}: no tuned variant{near} (there: {', '.join(known)})"]
    mine = [m for m in members if wanted.variant in {None, m[0].variant}]
    if wanted.checkpoint is not None:
        place = wanted.checkpoint
        mine = [m for m in mine if any(_is_checkpoint(e, place) for e in m)]
        if not mine:
            known = sorted({cell.checkpoint for cell in answering})
            near = close_match(str(place), known)
            there = f"give a label or its tokens; there: {', '.join(known)}"
            return [f"reference.checkpoint={place!r}: no tuned checkpoint{near} ({there})"]
    problems = [_missing(study, part, wanted) for part in mine]
    return [] if None in problems else [problems[0] or ""]


def _missing(study: Study, members: Sequence[_LabelledCell], wanted: ReferenceChoice) -> str | None:
    """Return why a group does not have this reference; None if it has."""
    at = [e for e in members if wanted.checkpoint is None or _is_checkpoint(e, wanted.checkpoint)]
    for name, value in wanted.fields.items():
        there = list(dict.fromkeys(e.fields[name] for e in at if e.fields.get(name) is not None))
        if value not in there:
            known = ", ".join(_short(v) for v in sorted(there, key=_order)) or "none"
            return f"reference.{name}={_short(value)}: not in the grid (there: {known})"
    if not any(_has(e, wanted.fields) for e in at):
        return f"reference: no cell has all of {', '.join(f'{n}={_short(v)}' for n, v in wanted.fields.items())}"
    like = choose(members, dataclasses.replace(wanted, seed=None)).cell
    if wanted.seed is None or any(e.seed == wanted.seed for e in members):
        return None
    steps = _unseeded(study, like)
    if steps is None:
        return f"reference.seed={wanted.seed}: {like.variant} was tuned elsewhere, with no such seed; leave it out"
    if tuple(seeded(m, wanted.seed) for m in steps) == like.modifications:
        return f"reference.seed={wanted.seed}: the steps of {like.variant} fix their seed; leave it out"
    return None


def _labelled(cell: Cell) -> _LabelledCell:
    origin, steps, fields = cell.base or cell.point, [m.name for m in cell.modifications], cell.columns()
    return _LabelledCell(
        cell=cell,
        checkpoint=cell.checkpoint,
        family=origin.family,
        run=origin.run,
        tokens=cell.point.tokens,
        variant=cell.variant,
        seed=cell.seed,
        fields=fields,
        selected=selected_value(axes_of_columns(steps), fields),
        data=data_of_columns(steps, fields),
        reference_only=not cell.curve,
    )


def _has(candidate: Candidate, fields: Mapping[str, Value]) -> bool:
    return all(candidate.fields.get(name) == value for name, value in fields.items())


def _short(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _order(value: Value) -> tuple[bool, float, str]:
    """Return a sort key: numbers by size come first, then texts."""
    return (False, float(value), "") if isinstance(value, int | float) else (True, 0.0, str(value))


def _is_checkpoint(candidate: Candidate, place: str | int) -> bool:
    return place in (candidate.checkpoint, candidate.tokens) or str(place) == str(candidate.tokens)


def _unseeded(study: Study, cell: Cell) -> tuple[Modification, ...] | None:
    """Return the steps of a cell with the seeds of the study's file; None for a checkpoint that was tuned elsewhere."""
    for variant in study.variants:
        if variant.name != cell.variant or cell.base is not None:
            continue
        for steps in variant.grid:
            kept = tuple(m for m in steps if not m.is_neutral())
            if tuple(seeded(m, cell.seed or 0) for m in kept) == cell.modifications:
                return kept
    return None
