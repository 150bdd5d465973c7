"""Records of made-up cells, and a study's folder that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from overtrain.results.record import CellRecord, StudyRecord, described
from overtrain.results.study_file import read_study, write_study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def cell_record(label: str, **given: Any) -> CellRecord:
    """Return a cell; what is not given is that of a base checkpoint without an identity."""
    plain = {"key": label, "label": label, "checkpoint": "m", "family": "m", "run": "m", "tokens": 1}
    return CellRecord(**{**plain, "variant": "base", "modification": "base", **given})


def write_cells(root: Path, cells: Sequence[CellRecord], **study: Any) -> StudyRecord:
    """Write ``study.json`` with these cells; return what was written."""
    record = described(StudyRecord(**{"name": "s", **study}, cells=tuple(cells)))
    write_study(root, record)
    return record


def cells_of(root: Path) -> list[CellRecord]:
    """Return the cells of a study's folder."""
    record = read_study(root)
    assert record is not None, f"{root} has no study.json"
    return list(record.cells)
