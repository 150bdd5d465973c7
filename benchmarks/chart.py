"""``python -m benchmarks.chart``: writes the README's table of speeds and ``docs/speed.png`` from the stored results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
START, END = "<!-- speed: made by python -m benchmarks.chart -->", "<!-- end of speed -->"


def main() -> None:
    """Write the table into the README and draw the chart."""
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    draw(ROOT / "docs" / "speed.png")


def with_table(text: str) -> str:
    """Return the README with the table in its place."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    if not rest or not after:
        sys.exit(f"README.md lacks {START} ... {END}")
    return f"{before}{START}\n{table()}\n{END}{after}"


def table() -> str:
    """Return the table in Markdown, one row per kept result, and a sentence on what a start costs."""
    made = {
        "scoring-30m-cpu": _scoring,
        "scoring-1b-cpu": _scoring,
        "commands-30m-cpu": _commands,
        "copies-30m-cpu": _copies,
        "finetune-30m-cpu": _finetune,
        "judge": _judge,
    }
    rows = [one for name, row in made.items() if (found := _read(name)) for one in _several(row(found))]
    lines = [("what", "against", "ratio", "measured on"), ("---",) * 4, *rows]
    shown = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    starts = _read("startup")
    return shown if starts is None else f"{shown}\n\n{_startup(starts)}"


Cells = tuple[str, str, str, str]


def _several(rows: Cells | list[Cells]) -> list[Cells]:
    return rows if isinstance(rows, list) else [rows]


def _scoring(found: dict[str, Any]) -> tuple[str, str, str, str]:
    ratio = (
        f"**{found['ratio_of_totals']:.2f}x** in total, geometric mean {found['geometric_mean']:.2f}x, least "
        f"{found['least_ratio']:.2f}x; "
        f"within {found['largest_difference']:.0e} nats; {found['share_of_bound']:.0%} of the bound"
    )
    what = f"ten tasks, 5-shot, {found['model'].upper()} shape, {found['dtype']}, {found['clock'].upper()} time"
    return what, "lm-eval's `hf` at its best batch size", ratio, _where(found)


def _commands(found: dict[str, Any]) -> list[Cells]:
    rows = []
    for size in found["commands"]:
        what = f"the whole command `lm_eval`, ten tasks, 5-shot, {size['requests']} requests, {found['model'].upper()} shape"
        first = f"{size['ratio_first']:.2f}x the first time, when scores are compared with lm-eval's"
        ratio = f"**{size['ratio_second']:.2f}x**; {first}"
        against = f"`lm_eval --model hf --batch_size {size['hf_batch_size']}`"
        rows.append((what, against, ratio, f"CPU time of one run; {_where(found)}"))
    study = found.get("study")
    if study is None:
        return rows
    timed = sum(kind["timed"] for kind in study["kinds"].values())
    what = f"`overtrain sweep`, {study['cells']} cells of the demo's study, pre-training aside"
    against = f"a loop of one `lm_eval` command per cell, {timed} of them timed"
    return [*rows, (what, against, f"**{study['ratio']:.1f}x**", f"CPU time of one run; {_where(found)}")]


def _copies(found: dict[str, Any]) -> tuple[str, str, str, str]:
    one = found["sizes"][0]
    tasks = f"{len(one['tasks'])} tasks of {one['documents_per_task']} documents"
    what = f"each further perturbed copy, K = {found['copies']}, {tasks}"
    return what, "a stock `lm_eval` run each, `scoring=plain`", f"**{one['ratio']:.2f}x**", _where(found)


def _finetune(found: dict[str, Any]) -> tuple[str, str, str, str]:
    times = found["speed_ratios"]
    ratio = (
        f"**{times['trainer-padded']:.2f}x, {times['trl-padded']:.2f}x, {times['trl-packing']:.2f}x**; "
        f"{found['memory_ratios']['trainer-padded']:.2f} of Trainer's peak memory; {found['share_of_bound']:.0%} of the bound"
    )
    what = f"useful tokens per {found['clock'].upper()} second, {found['model'].upper()} shape, instruction data"
    peers = f"Trainer padded, TRL padded, TRL packing; padded: {found['peer_rows_per_forward']} rows per forward"
    return what, peers, ratio, _where(found)


def _judge(found: dict[str, Any]) -> tuple[str, str, str, str]:
    ours, theirs = found["ours"]["questions"], found["alpaca_eval"]["questions"]
    where = f"{found['cpus']} cores, a local server that answers at once"
    return (
        f"AlpacaEval's client, {ours} questions",
        f"alpaca_eval, {theirs} questions",
        f"**{found['ratio']:.0f}x**",
        where,
    )


def _startup(found: dict[str, Any]) -> str:
    shown, hook = found["help_seconds"]["median"], found["hook_milliseconds"]["median"]
    return (
        f"`overtrain --help` takes {shown:.2f} s, the import hook {hook:.2f} ms of every start of the interpreter "
        f"({_where(found)})."
    )


def draw(path: Path) -> None:
    """Draw the ratio of every task of the kept scoring results."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    found = [f for name in ("scoring-30m-cpu", "scoring-1b-cpu") if (f := _read(name))]
    if not found:
        return
    figure, axis = plt.subplots(figsize=(7.5, 3.0), layout="constrained")
    width = 0.8 / len(found)
    for place, one in enumerate(found):
        tasks = [row["task"].replace("_", "\n") for row in one["tasks"]]
        at = [i + (place - (len(found) - 1) / 2) * width for i in range(len(tasks))]
        ratios = [row["ratio"] for row in one["tasks"]]
        low = [round(row["hf"]["low"] / row["ours"]["high"], 2) for row in one["tasks"]]
        high = [round(row["hf"]["high"] / row["ours"]["low"], 2) for row in one["tasks"]]
        errors = [
            [max(r - a, 0) for r, a in zip(ratios, low, strict=True)],
            [max(b - r, 0) for r, b in zip(ratios, high, strict=True)],
        ]
        once = low == high == ratios  # no range to show
        label = f"{one['model'].upper()} shape, {one['dtype']}{', measured once' if once else ''}"
        axis.bar(
            at, ratios, width, yerr=None if once else errors, capsize=2, label=label,
            color=("#0072b2", "#e69f00")[place], hatch=("", "//")[place], edgecolor="black", linewidth=0.6,
        )  # fmt: skip
        axis.set_xticks(range(len(tasks)), tasks, fontsize="x-small")
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_ylabel("times faster than lm-eval's hf")
    title = "bars: medians; whiskers: range over repeats"
    figure.legend(
        loc="outside upper center", ncols=2, frameon=False, fontsize="small", title=title, title_fontsize="x-small"
    )
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.is_file() else None


def _where(found: dict[str, Any]) -> str:
    return f"{found['device']}, {found['threads']} thread{'s' if found['threads'] != 1 else ''}, {found['date']}"


if __name__ == "__main__":
    main()
