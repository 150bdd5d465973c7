"""What all figures share: a caption, colours, markers, the axis of tokens, error bars, one legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overtrain.analysis.verdict import format_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from overtrain.report.curves import Curve

__all__ = [
    "BARS",
    "Drawing",
    "Style",
    "draw_curve",
    "finish",
    "grid",
    "incomplete",
    "log_axis",
    "plain",
    "styles",
    "token_axis",
]

BARS = "Bars: 95% intervals of each point's own mean"

# Dark to light within a kind, so that greyscale keeps the order of the strengths; markers and lines differ as well.
_PALETTES = {
    "noise": ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#bddf26"),
    "finetune": ("#6b2500", "#9c3a00", "#cc5500", "#e07b00", "#e69f00", "#f0c24b"),
    "other": ("#003f5c", "#58508d", "#8a508f", "#bc5090", "#de5a79", "#ff8531"),
}
_MARKERS = "osD^vP"
_LINES = {"noise": "-", "finetune": "-.", "other": ":"}
_TUNED = "#cc5500"
_NARROWEST = 5.5
"""Inches: room for the legend and the line about bars."""

Style = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: of its files, without a suffix; may hold any character.
        title: heading on the page.
        caption: below it, plain text.
        alt: what it shows, for those who cannot see it.
        figure: matplotlib's.
        gaps: what its curves lack, in words.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Any
    gaps: tuple[str, ...] = ()


def plain(text: object) -> str:
    r"""Return ``text`` with what matplotlib would read as mathematics taken literally.

    >>> plain("cost $5")
    'cost \\$5'
    """
    return str(text).replace("$", r"\$")


def styles(curves: Sequence[Curve]) -> dict[str, Style]:
    """Return colour, marker and line style by label; a tuned curve is solid, the base dashed black."""
    found: dict[str, Style] = {}
    places: dict[str, int] = {}
    for curve in sorted(curves, key=lambda x: (x.variant, x.settings, x.strength or 0.0)):
        if curve.label in found:
            continue
        if curve.base:
            found[curve.label] = {"color": "black", "marker": "*", "linestyle": "--", "markersize": 8}
            continue
        look = _look(curve)
        key = "tuned" if curve.tuned else look
        place = places.get(key, 0)
        places[key] = place + 1
        alike = {x.label for x in curves if not x.base and _look(x) == look and x.tuned == curve.tuned}
        palette = _PALETTES["other" if curve.tuned else look]
        found[curve.label] = {
            "color": _TUNED if len(alike) == 1 and look == "finetune" else _spread(palette, place, len(alike)),
            "marker": _MARKERS[place % len(_MARKERS)],
            "linestyle": "-" if curve.tuned else _LINES[look],
            "markersize": 5,
        }
    return found


def _look(curve: Curve) -> str:
    """Return the category whose colours a curve has; categories without colours of their own share one palette."""
    return curve.category if curve.category in _PALETTES else "other"


def _spread(palette: Sequence[str], place: int, total: int) -> str:
    """Return the colour of ``place`` so that few curves use the whole range of the palette."""
    if total >= len(palette):
        return palette[place % len(palette)]
    palette = palette[:-1]  # the lightest is hard to see on white
    return palette[round(place * (len(palette) - 1) / max(total - 1, 1))]


def grid(count: int, columns: int = 3, *, width: float = 3.6, height: float = 2.9) -> tuple[Any, list[Any]]:
    """Return a figure and ``count`` axes in rows of ``columns``; without pyplot, so no global state and no display.

    `overtrain.report.files.save_figures` lays it out, once for all formats.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(width * columns, _NARROWEST), height * rows + 0.7))
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    return figure, axes


def draw_curve(
    axes: Any, table: pd.DataFrame, style: Mapping[str, Any], *, x: str = "budget", names: Sequence[str] | None = None
) -> Any:
    """Draw one curve with its intervals; a gap breaks the line, and a cross on the axis marks where."""
    table = table.sort_values(x)
    mean, low, high = names or ("mean", "low", "high")
    at, y = table[x].to_numpy(float), table[mean].to_numpy(float)
    bars = np.stack([y - table[low].to_numpy(float), table[high].to_numpy(float) - y])
    bars = np.where(np.isfinite(bars), np.maximum(bars, 0.0), 0.0)
    has = np.isfinite(table[low].to_numpy(float)).any()
    handle = axes.errorbar(at, y, yerr=bars if has else None, capsize=2, elinewidth=1, linewidth=1.5, **style)
    gaps = at[~np.isfinite(y)]
    if len(gaps):
        axes.plot(
            gaps, np.full(len(gaps), 0.02), "x", color=style.get("color", "0.3"), markersize=7, clip_on=False,
            transform=axes.get_xaxis_transform(), zorder=5,
        )  # fmt: skip
    return handle


def token_axis(axes: Any, tokens: Iterable[float], *, label: bool = True) -> None:
    """Put tokens on a logarithmic axis, with a tick at (up to seven of) the measured budgets."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    budgets = sorted(set(tokens))
    axes.set_xlim(budgets[0] / 1.2, budgets[-1] * 1.2)
    axes.set_xticks(_apart(budgets), [format_tokens(n) for n in _apart(budgets)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if label:
        axes.set_xlabel("pre-training tokens (log scale)")
    axes.grid(visible=True, alpha=0.3)


def _apart(budgets: Sequence[float], most: int = 7) -> list[float]:
    """Return the budgets that have room for a label: the last one, and going down those at least 1/most of the range away."""
    if len(budgets) < 2:
        return list(budgets)
    step = np.log(budgets[-1] / budgets[0]) / most
    kept = [budgets[-1]]
    for budget in reversed(budgets[:-1]):
        if np.log(kept[-1] / budget) >= 0.98 * step:
            kept.append(budget)
    return kept[::-1]


def incomplete(table: pd.DataFrame) -> tuple[str, ...]:
    """Return what the curves in ``table`` lack, one entry per curve."""
    if "missing" not in table.columns:
        return ()
    rows = table[table["missing"].fillna("") != ""].drop_duplicates(["line", "missing"])
    return tuple(dict.fromkeys(f"{row.line}: {row.missing}" for row in rows.itertuples()))


def log_axis(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers, however short its range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    wide = high / low > 8 if low > 0 else True
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_formatter(NullFormatter())


def finish(figure: Any, handles: Mapping[str, Any], note: str = "") -> None:
    """Add the one legend and the line that says what the bars are."""
    if handles:
        columns = max(1, int(figure.get_figwidth() / (0.6 + 0.085 * max(map(len, handles)))))
        figure.legend(
            handles.values(),
            [plain(label) for label in handles],
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )
    if note:
        figure.suptitle(plain(note), fontsize="small", color="0.25")
