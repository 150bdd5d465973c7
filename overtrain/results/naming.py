"""Finds the cell of a study that a word on the command line names."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError, close_match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.results.record import CellRecord

__all__ = ["SHORTEST_ID", "named"]

SHORTEST_ID = 8
"""Characters of a ``cell_id`` or ``weights_id`` that are enough to name it."""


def named(cells: Sequence[CellRecord], name: str, what: str) -> CellRecord:
    """Return the one cell that ``name`` names.

    Args:
        cells: that can be meant.
        name: a label, a ``cell_id`` (its beginning is enough), or a pattern (``*``, ``?``) that fits one label.
        what: the argument that ``name`` was given for.

    Raises:
        ConfigError: none, or several.
    """
    exact = [cell for cell in cells if name in {cell.label, cell.cell_id}]
    short = [cell for cell in cells if len(name) >= SHORTEST_ID and (cell.cell_id or "").startswith(name)]
    found = exact or short or [cell for cell in cells if fnmatch.fnmatch(cell.label, f"*{name}*")]
    if len(found) == 1:
        return found[0]
    labels = [cell.label for cell in cells]
    if not found:
        there = (
            f"; those that can be meant are such as {labels[-1]!r}"
            if labels
            else "; the study has none that can be meant"
        )
        raise ConfigError(
            f"{what}={name!r}: no cell{close_match(name, labels)}{there}; give a cell_id, a label or a pattern for one"
        )
    some = ", ".join(repr(cell.label) for cell in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise ConfigError(f"{what}={name!r}: {len(found)} cells ({some}{more}); give one label or cell_id")
