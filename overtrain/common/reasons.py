"""Why cells have no result, in one line per reason: a thousand cells that fail alike are one thing to mend."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["grouped", "last_line"]

_SHOWN = 3
_OURS = re.compile(r"^model_wrappers\.errors\.\w+: ")


def last_line(error: str) -> str:
    r"""Return what an error says, without its traceback; of an error of ours the message alone.

    >>> last_line("Traceback ...\nmodel_wrappers.errors.DataError: a.jsonl: no row")
    'a.jsonl: no row'
    >>> last_line("Traceback ...\nKeyError: 'x'")
    "KeyError: 'x'"
    """
    lines = error.strip().splitlines() or [""]
    ours = next((place for place in range(len(lines) - 1, -1, -1) if _OURS.match(lines[place])), None)
    said = " ".join(line.strip() for line in lines[ours:]) if ours is not None else lines[-1]
    return _OURS.sub("", said)


def grouped(what: str, cells: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line per reason, those of most cells first.

    Args:
        what: became of the cells, e.g. ``failed``.
        cells: label and reason of each.

    >>> grouped("failed", [("a", "no row"), ("b", "no row"), ("c", "no disk")])
    ['2 cells failed: no row (a, b)', '1 cell failed: no disk (c)']
    """
    labels: dict[str, list[str]] = {}
    for label, reason in cells:
        labels.setdefault(reason, []).append(label)
    lines = []
    for reason, named in sorted(labels.items(), key=lambda entry: -len(entry[1])):
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        count = f"{len(named)} cell{'s' if len(named) > 1 else ''}"
        lines.append(f"{count} {what}: {reason or 'no reason was stored'} ({', '.join(named[:_SHOWN])}{more})")
    return lines
