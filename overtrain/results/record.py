"""What a study's folder says, as frozen dataclasses with one schema: ``study.json`` and the rows of ``metrics.json``.

This module alone reads, writes and validates ``study.json``. A file of an earlier format is migrated when it is read
(`overtrain.results.migrate`) and written in today's format by the next sweep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003  (annotations of records are read at run time)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole
from overtrain.common.typed_json import from_json, to_json
from overtrain.plan.axes import Value  # noqa: TC001  (annotations of records are read at run time)
from overtrain.results.migrate import migrate
from overtrain.study.study import Judge, Primary, Reference, Select

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FORMAT",
    "AxisRecord",
    "CellRecord",
    "MetricRow",
    "StudyRecord",
    "VariantRecord",
    "read_metrics",
    "read_study",
    "write_study",
]

FORMAT = 2
"""Of ``study.json``. Format 1 had no categories, axes or data sets of cells, and the study's own part under ``study``."""

_NAME = "study.json"


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
    """One cell: its labels, its identities, and why it has none.

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
    category: str
    seed: int | None = None
    fields: Mapping[str, Value] = field(default_factory=dict)
    axes: Mapping[str, Value] = field(default_factory=dict)
    selected: float | None = None
    data: tuple[str, ...] = ()
    answers: bool = False
    reference_only: bool = False


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study as it was last swept: all that analysis and report need beside the cells' own files.

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
    select: Select = field(default_factory=Select)
    reference: Reference | None = None
    judge: Judge | None = None
    primary: Primary | None = None
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
class _Rows:
    rows: tuple[MetricRow, ...]


def read_study(root: Path) -> StudyRecord | None:
    """Return what the folder's ``study.json`` says; None if there is none.

    Raises:
        StoreError: the file is damaged, or was written by a newer version of this package.
    """
    path = root / _NAME
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    written = content.get("format", 1) if isinstance(content, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise StoreError(
            f"{path} has format {written}, and this version of lm-eval-overtrain reads formats 1 to {FORMAT}; install the "
            "version that wrote the file, or a newer one"
        )
    try:
        if written != FORMAT:
            content = migrate(content)
        return from_json(StudyRecord, {name: value for name, value in content.items() if name != "format"})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def write_study(root: Path, record: StudyRecord) -> None:
    """Write ``study.json``.

    Raises:
        StoreError: the file cannot be written.
    """
    content = {"format": FORMAT, **to_json(record)}
    write_whole(root / _NAME, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_metrics(content: bytes) -> tuple[MetricRow, ...]:
    """Return the rows of a cell's ``metrics.json``.

    Raises:
        StoreError: they are not what a sweep writes.
    """
    try:
        return from_json(_Rows, {"rows": json.loads(content)}).rows
    except ValueError as error:
        raise StoreError(
            f"metrics.json is damaged ({error}); delete the cell's folder and run the study again"
        ) from error


def _damaged(path: Path, error: Exception) -> StoreError:
    why = str(error) if isinstance(error, ValueError) else repr(error)
    return StoreError(f"{path} is damaged ({why}); delete it and run the study again (its cells are kept)")
