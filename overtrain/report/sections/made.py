"""How the page was made: versions, and the files beside it."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from overtrain.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from overtrain.report.data import ReportData

__all__ = ["Made"]

_LIBRARIES = ("lm-eval-overtrain", "lm-eval", "torch", "transformers", "pandas", "scipy", "matplotlib")


class Made(Section):
    """Versions of the libraries, and links to every table."""

    key = "made"
    title = "How it was made"
    order = 200

    def sentences(self, data: ReportData) -> Iterator[str]:
        """Yield the versions."""
        yield _versions(data.versions)

    def files(self, data: ReportData) -> Iterator[str]:
        """Yield the names of all tables with rows."""
        yield from sorted(name for name, frame in data.frames.items() if len(frame))


def _versions(cells: Mapping[str, str]) -> str:
    here = []
    for name in _LIBRARIES:
        try:
            here.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    ran = "; cells were evaluated with " + ", ".join(f"{k} {v}" for k, v in cells.items()) if cells else ""
    return f"This page was made with {', '.join(here)}{ran}. Rows of every figure are in the tables, as CSV and as Parquet."
