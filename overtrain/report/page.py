"""The page: one HTML file with everything in it, readable without a network; every value that is filled in is escaped."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtrain.report.headline import effects, headline, limit, primary
from overtrain.report.published import published
from overtrain.report.sentences import law, slope
from overtrain.report.tables import Table, cell_table, tables
from overtrain.report.win_rates import sentences as win_rate_sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from overtrain.report.assemble import Assembled
    from overtrain.report.figures.style import Drawing

__all__ = ["Section", "render"]

_TITLES = {
    "published": "The paper's statements, and ours",
    "benchmarks": "Benchmarks and text: base and tuned",
    "alpaca_eval": "AlpacaEval",
    "noise": "Noise",
    "finetune": "Fine-tuning at fixed learning rates",
    "other": "Other modifications",
    "tuned": "At the tuned learning rate",
    "optima": "Optimal learning rates",
    "distance": "Distance against learning rate",
    "verdicts": "What each curve does",
    "trends": "Sensitivity",
    "comparisons": "Two checkpoints compared",
    "transitions": "Which answers turn",
    "matched": "At matched base loss",
    "shares": "What the average rests on",
    "checks": "Checks",
    "confounds": "Confounds",
    "missing": "Left out, and why",
    "cells": "Every cell",
    "made": "How it was made",
}
_SECTION_OF = {"fine-tuning": "finetune", "noise": "noise", "other": "other"}
_LIBRARIES = ("lm-eval-overtrain", "lm-eval", "torch", "transformers", "pandas", "scipy", "matplotlib")


@dataclass
class Section:
    """One part of the page; one that has nothing to show is left out."""

    key: str
    title: str
    text: list[str] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    words: dict[str, Any] | None = None
    tables: list[Table] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def filled(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.text or self.figures or self.words or self.tables or self.items or self.files)


def render(
    made: Assembled, drawings: Sequence[tuple[Drawing, str, str]], files: Sequence[str], *, with_published: bool
) -> str:
    """Return the page's HTML.

    Args:
        made: what to show.
        drawings: each figure with its file name (no suffix) and its SVG.
        files: names of the tables under ``tables/``.
        with_published: put the paper's statements beside ours.
    """
    from jinja2 import Environment, StrictUndefined

    sections = {key: Section(key, title) for key, title in _TITLES.items()}
    for drawing, name, svg in drawings:
        sections[_SECTION_OF.get(drawing.section, drawing.section)].figures.append(_figure(drawing, name, svg))
    for table in [*tables(made), cell_table(made)]:
        sections[table.section].tables.append(table)
    _words(sections, made, files, with_published=with_published)
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string((Path(__file__).parent / "page.html.j2").read_text("utf-8"))
    status = made.cells["status"].value_counts()
    return template.render(
        name=str(made.study["name"]),
        description=str(made.study.get("description") or ""),
        headline=headline(made),
        primary=primary(made),
        limit=limit(made),
        effects=effects(made),
        counts=f"{len(made.cells)} cells: " + ", ".join(f"{n} {s}" for s, n in status.items()) + ".",
        incomplete=bool((made.cells["status"] != "done").any()),
        sections=[section for section in sections.values() if section.filled],
        bad={"failed", "missing", "cancelled"},
    )


def _words(sections: Mapping[str, Section], made: Assembled, files: Sequence[str], *, with_published: bool) -> None:
    if with_published:
        rows = [[row["paper"], row["where"], row["ours"]] for row in published(made)]
        sections["published"].words = {"head": ["The paper", "where", "this study"], "rows": rows}
        sections["published"].text = [
            "Springer et al. (2025), arXiv 2503.19206. Checkpoints within 5% of the tokens that the text names are compared."
        ]
    sections["optima"].text = [slope(row) for row in made.frame("slopes").to_dict("records")]
    sections["alpaca_eval"].text = win_rate_sentences(made)
    sections["distance"].text = [told for row in made.frame("distance_law").to_dict("records") if (told := law(row))]
    sections["missing"].items = [*_gaps(made.frame("curves")), *made.notes]
    sections["made"].text = [_versions(made.study)]
    sections["made"].files = list(files)


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


def _gaps(curves: pd.DataFrame) -> list[str]:
    if curves.empty:
        return []
    rows = curves[curves["missing"].fillna("") != ""].drop_duplicates(
        ["family", "line", "endpoint", "metric", "missing"]
    )
    grouped = rows[rows["quantity"] == "value"].groupby(["family", "line", "missing"], sort=False)
    return [
        f"{family}, {line} ({', '.join(dict.fromkeys(part['endpoint'] + ', ' + part['metric']))}): {missing}."
        for (family, line, missing), part in grouped
    ]


def _versions(study: Mapping[str, Any]) -> str:
    here = []
    for name in _LIBRARIES:
        try:
            here.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    cells = study.get("versions") or {}
    ran = "; cells were evaluated with " + ", ".join(f"{k} {v}" for k, v in cells.items()) if cells else ""
    return f"This page was made with {', '.join(here)}{ran}. Rows of every figure are in the tables, as CSV and as Parquet."
