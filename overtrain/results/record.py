"""What a study's folder says, as frozen dataclasses: `StudyRecord`, `CellRecord`, `MetricRow`.

`overtrain.results.study_file` alone reads, writes and migrates them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping  # noqa: TC003  (annotations of records are read at run time)
from dataclasses import dataclass, field
from typing import Literal

from overtrain.common.typed_json import Value  # noqa: TC001  (annotations of records are read at run time)
from overtrain.plan.axes import axes_of_cells, axes_of_columns, category_of, data_of_columns, selected_value
from overtrain.study.settings import JudgeSettings, PrimaryComparison, ReferenceChoice, Selection
from overtrain.study.study import BASE

__all__ = [
    "AxisRecord",
    "CellRecord",
    "FileRecord",
    "MetricRow",
    "StatusRecord",
    "StudyRecord",
    "VariantRecord",
    "described",
]

TUNED = "tuned"
"""``modification`` of a checkpoint that was tuned elsewhere."""


@dataclass(frozen=True, kw_only=True)
class AxisRecord:
    """A field of a variant's modifications that people vary.

    Attributes:
        field: column of the tidy frame; ``learning_rate_2`` is the field of a second step.
        label: for axes of figures and for labels.
        unit: of the values, empty without one.
        scale: that a figure draws the values on.
        selected: whether a study chooses this field's value per checkpoint, as the learning rate.
        values: that the variant's cells have, in the study's order.
    """

    field: str
    label: str
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    selected: bool = False
    values: tuple[Value, ...] = ()

    @property
    def varied(self) -> bool:
        """Whether the variant has several values."""
        return len(self.values) > 1


@dataclass(frozen=True, kw_only=True)
class VariantRecord:
    """A named list of modifications over a grid.

    Attributes:
        name: as in the study's file.
        category: of its modifications: noise, finetune, ...; ``other`` where nobody says.
        axes: what its modifications declare as axes, and every other field that its cells vary.
    """

    name: str
    category: str
    axes: tuple[AxisRecord, ...] = ()

    @property
    def varied(self) -> tuple[AxisRecord, ...]:
        """The axes with several values."""
        return tuple(axis for axis in self.axes if axis.varied)

    @property
    def selected(self) -> AxisRecord | None:
        """The axis whose value a study chooses per checkpoint; None without one."""
        return next((axis for axis in self.axes if axis.selected), None)


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """One cell: its labels and its identities, or the reason why it has no identities.

    Attributes:
        key: names what is asked for.
        cell_id: of the result; None for a cell that cannot be evaluated.
        weights_id: of the evaluated weights; None likewise.
        problem: why the cell cannot be evaluated.
        label: for people and for ``--only``.
        checkpoint: label of the checkpoint; of one that was tuned elsewhere, of its base.
        family: what is compared across budgets.
        run: the pre-training run.
        tokens: seen in pre-training.
        checkpoint_learning_rate: of the pre-training at this checkpoint, where known.
        variant: name of the list of modifications, ``base`` for none.
        modification: names of the steps joined by ``+``, ``base`` for none, ``tuned`` for a checkpoint tuned elsewhere.
        category: of the modifications, ``base`` for none.
        seed: of the modifications.
        fields: column -> value, of every field of every step.
        axes: column -> value, of the axes that the study varies within the variant.
        selected: value of the axis that a study chooses per checkpoint, such as the learning rate.
        data: data sets and files that the modifications read.
        answers: whether the cell writes answers that are judged.
        reference_only: whether the cell is on no curve because it is there to be compared with.
    """

    key: str
    cell_id: str | None = None
    weights_id: str | None = None
    problem: str | None = None
    label: str
    checkpoint: str
    family: str
    run: str
    tokens: int
    checkpoint_learning_rate: float | None = None
    variant: str
    modification: str
    category: str = "other"
    seed: int | None = None
    fields: Mapping[str, Value] = field(default_factory=dict)
    axes: Mapping[str, Value] = field(default_factory=dict)
    selected: float | None = None
    data: tuple[str, ...] = ()
    answers: bool = False
    reference_only: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the modifications, in order; none for a checkpoint as it is, and for one that was tuned elsewhere."""
        return () if self.modification in {BASE, TUNED} else tuple(self.modification.split("+"))


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study at its last sweep: everything that analysis and report need in addition to the cells' own files.

    Attributes:
        name: of the study.
        description: of the study's file.
        tasks: what is measured.
        seeds: of the modifications, where a variant has none of its own.
        budgets: tokens of pre-training, ascending.
        variants: in the study's order, ``base`` left out.
        select: what selects the value of a selected axis.
        reference: which cell answers are compared with, where the study says.
        judge: who judges answers, where the study says.
        primary: the one comparison that was named before the study ran.
        plateau_margin: in the units of a verdict's quantity; None for the default.
        cells: in the study's order.
        same: keys of cells that are other words for the weights and requests of another cell.
    """

    name: str
    description: str = ""
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    budgets: tuple[int, ...] = ()
    variants: tuple[VariantRecord, ...] = ()
    select: Selection = field(default_factory=lambda: Selection(metric="validation_loss"))
    reference: ReferenceChoice | None = None
    judge: JudgeSettings | None = None
    primary: PrimaryComparison | None = None
    plateau_margin: float | None = None
    cells: tuple[CellRecord, ...] = ()
    same: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One number that a cell measured.

    Attributes:
        task: or group of tasks; ``training`` for what modifications report.
        metric: lm-eval's name, with its filter behind a comma unless that is ``none``.
        value: None where it is missing.
        stderr: over documents; None where there is none.
        n_documents: None for a group and for training.
        higher_is_better: None where neither is.
    """

    task: str
    metric: str
    value: float | None = None
    stderr: float | None = None
    n_documents: int | None = None
    higher_is_better: bool | None = None


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size and hash of one of a cell's files when it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class StatusRecord:
    """The contents of a cell's ``status.json``.

    Attributes:
        status: how the cell ended.
        started: in seconds since the epoch.
        finished: in seconds since the epoch.
        seconds: that the cell took.
        host: that ran the cell.
        pid: of the process that wrote the files.
        files: name -> what was written, ``status.json`` left out.
        error: of a failed cell, the traceback included; of a diverged cell, what was not finite.
    """

    status: Literal["done", "diverged", "failed", "cancelled"]
    started: float
    finished: float
    seconds: float
    host: str
    pid: int
    files: Mapping[str, FileRecord]
    error: str = ""


def described(study: StudyRecord) -> StudyRecord:
    """Add the declarations of registered modifications to a study's cells: category, axes, selected value, data sets.

    A modification that nobody has registered here has the category ``other``, and its varied fields are axes without a unit.

    Args:
        study: with cells whose labels and fields are known; its variants are kept in their order, others follow.
    """
    axes: dict[str, tuple[AxisRecord, ...]] = {}
    categories: dict[str, str] = {}
    names = dict.fromkeys([*(v.name for v in study.variants), *(c.variant for c in study.cells if c.variant != BASE)])
    for name in names:
        own = [cell for cell in study.cells if cell.variant == name]
        found = axes_of_cells((cell.steps, cell.fields) for cell in own)
        axes[name] = tuple(AxisRecord(**dataclasses.asdict(axis), values=values) for axis, values in found.values())
        categories[name] = _category(own[0]) if own else "other"
    variants = tuple(VariantRecord(name=name, category=categories[name], axes=axes[name]) for name in names)
    cells = tuple(_described(cell, [a.field for a in axes.get(cell.variant, ()) if a.varied]) for cell in study.cells)
    return dataclasses.replace(study, variants=variants, cells=cells)


def _described(cell: CellRecord, varied: list[str]) -> CellRecord:
    return dataclasses.replace(
        cell,
        category=_category(cell),
        axes={column: cell.fields[column] for column in varied if column in cell.fields},
        selected=selected_value(axes_of_columns(cell.steps), cell.fields),
        data=data_of_columns(cell.steps, cell.fields),
    )


def _category(cell: CellRecord) -> str:
    return category_of(cell.steps, elsewhere=cell.modification == TUNED)
