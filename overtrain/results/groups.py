"""Which cells of a swept study are compared with which reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overtrain.plan.reference import applies, choose, grouped
from overtrain.results.naming import named

if TYPE_CHECKING:
    from overtrain.results.record import CellRecord, StudyRecord

__all__ = ["Group", "groups"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cells whose answers are compared with one reference: one family, variant and fine-tuning data.

    Attributes:
        family: of the checkpoints.
        variant: of the study.
        reference: the cell that the others are compared with; its ``cell_id`` is None while nothing is planned.
        default: whether nobody chose it.
        cells: to judge, in the study's order, the reference excluded.
    """

    family: str
    variant: str
    reference: CellRecord
    default: bool
    cells: tuple[CellRecord, ...]


def groups(study: StudyRecord, override: str | None = None) -> list[Group]:
    """Return the groups of a study, in its order.

    Args:
        study: as it was last swept.
        override: a cell in place of the reference of its own group: ``cell_id`` (eight characters are enough), label, or a
            pattern (``*``, ``?``) for labels that fits one cell. The other groups keep theirs.

    Raises:
        ConfigError: ``override`` names no cell with answers, or several.
    """
    answering = [cell for cell in study.cells if cell.answers]
    chosen = named(answering, override, "reference") if override else None
    found = []
    for members in grouped(answering):
        wanted = study.reference if applies(members, study.reference) else None
        given = chosen is not None and any(cell is chosen for cell in members)
        reference = chosen if chosen is not None and given else choose(members, wanted)
        default = not given and not (wanted is not None and wanted.seed in {None, reference.seed})
        cells = tuple(cell for cell in members if cell is not reference and not cell.reference_only)
        first = members[0]
        found.append(
            Group(family=first.family, variant=first.variant, reference=reference, default=default, cells=cells)
        )
    return found
