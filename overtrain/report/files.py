"""Put figures and tables on the disk, under names that are safe whatever a study is called."""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any

from model_wrappers.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from overtrain.report.drawing import Drawing

__all__ = ["FORMATS", "clear", "harmless", "remember", "save_figures", "save_tables", "slug"]

FORMATS = ("svg", "pdf", "png")
"""Of every figure; the page holds the first."""
_MANIFEST = "files.json"
_DPI = 150
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def slug(name: str) -> str:
    """Return a file name without a suffix: letters, digits, ``.``, ``_`` and ``-``; other characters cost a hash.

    >>> slug("figure-3-tiny noise"), slug("../<b>")
    ('figure-3-tiny-noise', 'b-9f46aef2')
    """
    plain = name.replace(", ", "-").replace(" ", "-")
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip(".-")[:100]
    if clean == plain and clean:
        return clean
    return f"{clean or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def save_figures(drawings: Sequence[Drawing], folder: Path) -> list[tuple[Drawing, str, str]]:
    """Write every drawing as SVG, PDF and PNG; return each with its file name (without suffix) and its SVG.

    The layout is solved once; text becomes outlines, so no font is needed to show it. Files hold no date: equal frames
    give equal files.
    """
    import matplotlib as mpl
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    saved: list[tuple[Drawing, str, str]] = []
    with mpl.rc_context({"svg.hashsalt": "overtrain", "svg.fonttype": "path", "font.size": 10}):
        for drawing in drawings:
            name = _unused(slug(drawing.name), {other for _, other, _ in saved})
            ConstrainedLayoutEngine().execute(drawing.figure)
            svg = ""
            for kind in FORMATS:
                memory = io.BytesIO()
                undated = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else {}
                drawing.figure.savefig(memory, format=kind, dpi=_DPI, metadata=undated)
                write_whole(folder / f"{name}.{kind}", memory.getvalue())
                svg = memory.getvalue().decode() if kind == "svg" else svg
            saved.append((drawing, name, svg))
    return saved


def _unused(name: str, used: set[str]) -> str:
    number = 2
    found = name
    while found.lower() in {other.lower() for other in used}:
        found, number = f"{name}-{number}", number + 1
    return found


def save_tables(frames: Mapping[str, pd.DataFrame], folder: Path) -> list[str]:
    """Write every frame with rows as CSV and Parquet; return their names."""
    names = []
    for name, frame in frames.items():
        if frame.empty:
            continue
        write_whole(folder / f"{name}.csv", harmless(frame).to_csv(index=False, lineterminator="\n"))
        memory = io.BytesIO()
        _uniform(frame).to_parquet(memory, index=False)
        write_whole(folder / f"{name}.parquet", memory.getvalue())
        names.append(name)
    return names


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose texts no spreadsheet takes for a formula: such a text gets an apostrophe in front.

    A formula begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return; names of tasks, variants and checkpoints
    come from files of others. Numbers stay as they are, and so do texts that are numbers.
    """
    texts = [c for c in frame.columns if frame[c].map(lambda value: isinstance(value, str)).any()]
    safe = frame.assign(**{str(c): frame[c].map(_quoted) for c in texts})
    return safe.rename(columns=_quoted, index=_quoted)


def _quoted(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _uniform(frame: pd.DataFrame) -> pd.DataFrame:
    """Write columns of mixed type as text; Parquet has one type per column."""
    import pandas as pd

    kinds = {c: {type(v) for v in frame[c].dropna()} for c in frame.columns if frame[c].dtype == object}
    mixed = [c for c, found in kinds.items() if not (len(found) == 1 and found <= {str, bool})]
    return frame.assign(**{c: frame[c].map(lambda v: v if pd.isna(v) else str(v)).astype("string") for c in mixed})


def clear(out: Path) -> None:
    """Remove the files that the report written here before listed as its own, and nothing else."""
    try:
        listed = json.loads((out / _MANIFEST).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in listed:
        if re.fullmatch(r"(figures|tables)/[A-Za-z0-9][A-Za-z0-9._-]*", str(name)):
            (out / str(name)).unlink(missing_ok=True)


def remember(out: Path, files: Sequence[str]) -> None:
    """List the report's own files, for `clear`."""
    write_whole(out / _MANIFEST, json.dumps({"files": sorted(files)}, indent=1) + "\n")
