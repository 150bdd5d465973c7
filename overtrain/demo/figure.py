"""The demo's one figure: held-out perplexity after noise, after fine-tuning, and the sensitivity, against tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from overtrain.demo.sentences import label, short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from overtrain.demo.curves import Curve

__all__ = ["draw"]

# Dark to light within a kind, so that greyscale keeps the order of the strengths; markers and lines differ as well.
_NOISE = (("#440154", "o"), ("#31688e", "s"), ("#1f9e89", "^"), ("#7ad151", "D"))
_FINETUNE = (("#9c3a00", "v"), ("#e69f00", "P"))
_DPI = 150


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write the figure as a PNG of 12 x 5 inches at 150 dots per inch.

    Error bars are two standard errors over modification seeds and documents; they do not cover another pre-training.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(12, 5), dpi=_DPI, layout="constrained")
    noise, finetune, sensitivity = figure.subplots(1, 3)
    handles: dict[str, Any] = {}
    for curve in curves:
        style = _style(curve, curves)
        if curve.quantity == "sensitivity":
            _line(sensitivity, curve, curve.means, 2 * curve.stderr, style)
        elif curve.quantity == "loss":
            for axes, kind in ((noise, "gaussian"), (finetune, "finetune")):
                if curve.kind in {"base", kind}:
                    handles[label(curve)] = _perplexity(axes, curve, style)
    noise.set(title="After Gaussian noise", ylabel="held-out perplexity per token")
    finetune.set(title="After fine-tuning on arithmetic", ylabel="held-out perplexity per token")
    sensitivity.set(title="Sensitivity", ylabel="loss, modified minus base (nats per token)")
    sensitivity.axhline(0, color="0.5", linewidth=0.8)
    for axes in (noise, finetune, sensitivity):
        _tokens_axis(axes, curves[0].tokens)
    for axes in (noise, finetune):
        _perplexity_axis(axes)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        "Bars: ±2 standard errors over modification seeds and documents; one pre-training seed", fontsize="small"
    )
    figure.savefig(path)


def _style(curve: Curve, curves: Sequence[Curve]) -> dict[str, Any]:
    if curve.kind == "base":
        return {"color": "black", "marker": "*", "linestyle": "--", "markersize": 8}
    strengths = sorted({c.strength for c in curves if c.kind == curve.kind})
    palette = _NOISE if curve.kind == "gaussian" else _FINETUNE
    colour, marker = palette[strengths.index(curve.strength) % len(palette)]
    line = "-" if curve.kind == "gaussian" else "-."
    return {"color": colour, "marker": marker, "linestyle": line, "markersize": 5}


def _perplexity(axes: Any, curve: Curve, style: dict[str, Any]) -> Any:
    centre = np.exp(curve.means)
    bars = np.stack([centre - np.exp(curve.means - 2 * curve.stderr), np.exp(curve.means + 2 * curve.stderr) - centre])
    return _line(axes, curve, centre, bars, style)


def _line(axes: Any, curve: Curve, centre: Any, bars: Any, style: dict[str, Any]) -> Any:
    return axes.errorbar(curve.tokens, centre, yerr=bars, capsize=2, elinewidth=1, linewidth=1.5, **style)


def _tokens_axis(axes: Any, tokens: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(tokens, [short(n) for n in tokens])
    axes.minorticks_off()
    axes.set_xlabel("pre-training tokens (log scale)")
    axes.grid(visible=True, alpha=0.3)


def _perplexity_axis(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
