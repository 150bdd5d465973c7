"""The page: one HTML file with everything in it, readable without a network; every value that is filled in is escaped."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtrain.report.headline import headline, limit, primary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from overtrain.report.data import ReportData
    from overtrain.report.drawing import Drawing
    from overtrain.report.section import Section
    from overtrain.report.tables import Table

__all__ = ["Saved", "render"]

Saved = tuple["Drawing", str, str]
"""A figure with its file name (no suffix) and its SVG."""


@dataclass(frozen=True)
class _Part:
    """What the template shows of one section."""

    key: str
    title: str
    text: list[str]
    figures: list[dict[str, Any]]
    tables: list[Table]
    items: list[str]
    files: list[str]

    @property
    def filled(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.text or self.figures or self.tables or self.items or self.files)


def render(data: ReportData, sections: Sequence[Section], figures: Mapping[str, Sequence[Saved]]) -> str:
    """Return the page's HTML.

    Args:
        data: what to show.
        sections: in the order of the page.
        figures: those of each section, by its key.
    """
    from jinja2 import Environment, StrictUndefined

    parts = [_part(data, section, figures.get(section.key, ())) for section in sections]
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string((Path(__file__).parent / "page.html.j2").read_text("utf-8"))
    status = data.cells["status"].value_counts()
    return template.render(
        name=data.study.name,
        description=data.study.description,
        headline=headline(data),
        primary=primary(data),
        limit=limit(data),
        effects=[sentence for section in sections for sentence in section.effects(data)],
        counts=f"{len(data.cells)} cells: " + ", ".join(f"{n} {s}" for s, n in status.items()) + ".",
        incomplete=bool((data.cells["status"] != "done").any()),
        sections=[part for part in parts if part.filled],
        bad={"failed", "missing", "cancelled"},
    )


def _part(data: ReportData, section: Section, figures: Sequence[Saved]) -> _Part:
    return _Part(
        key=section.key,
        title=section.title,
        text=list(section.sentences(data)),
        figures=[_figure(*saved) for saved in figures],
        tables=[table for table in section.tables(data) if table.rows],
        items=list(section.items(data)),
        files=list(section.files(data)),
    )


def _figure(drawing: Drawing, name: str, svg: str) -> dict[str, Any]:
    size = re.search(
        r'<svg[^>]*?\bwidth="([\d.]+)pt"[^>]*?\bheight="([\d.]+)pt"|<svg[^>]*?\bheight="([\d.]+)pt"[^>]*?\bwidth="([\d.]+)pt"',
        svg,
    )
    assert size is not None
    width, height = (size[1], size[2]) if size[1] else (size[4], size[3])
    return {
        "title": drawing.title,
        "caption": drawing.caption,
        "alt": drawing.alt,
        "gaps": "; ".join(drawing.gaps),
        "file": name,
        "svg": base64.b64encode(svg.encode()).decode("ascii"),
        "width": round(float(width) * 4 / 3),
        "height": round(float(height) * 4 / 3),
    }
