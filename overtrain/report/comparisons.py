"""Two checkpoints against each other: the study's primary comparison, and the same budgets on everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.adjust import holm
from overtrain.analysis.compare import compare, compare_all
from overtrain.report.curves import in_figure_2, named
from overtrain.report.rates import tuned_long

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from overtrain.report.endpoints import Endpoint
    from overtrain.report.view import Line
    from overtrain.report.work import Work


__all__ = ["adjusted", "chosen_lines", "compared", "curve_of", "figure_2_lines", "is_primary", "own_direction"]


def compared(work: Work, endpoint: Endpoint) -> None:
    """Add to ``comparisons`` the two budgets of the primary comparison on one endpoint, in the metric's own direction.

    ``pairs`` are all pairs of budgets of the primary curve, adjusted by max-T.
    """
    primary = work.study.get("primary")
    if not primary:
        return
    before, after = (int(b) for b in primary["compare"])
    for line in chosen_lines(work, primary):
        if not endpoint.concerns(line):
            continue
        try:
            long = curve_of(work, line, endpoint)
            first = is_primary(line, endpoint, primary)
            row = own_direction(compare(long, before, after), endpoint)
            work.add("comparisons", named(row, line, endpoint, primary=first))
            if first:
                work.add("pairs", named(own_direction(compare_all(long), endpoint), line, endpoint))
        except DataError as error:
            work.note(line.family, line.label, endpoint.name, f"{before} against {after} tokens", why=error)


def adjusted(work: Work) -> None:
    """Adjust all comparisons but the primary one by Holm."""
    table = work.frames.get("comparisons")
    if table is None:
        return
    primary, others = table[table["primary"]], table[~table["primary"]]
    work.frames["comparisons"] = pd.concat([primary, holm(others) if len(others) else others], ignore_index=True)


def own_direction(table: pd.DataFrame, endpoint: Endpoint) -> pd.DataFrame:
    """Turn differences of an oriented score back; ``worse`` says whether the later budget is the worse one."""
    worse = table["effect"] > 0
    if endpoint.higher_is_better:
        means = [c for c in ("mean_before", "mean_after", "effect", "relative") if c in table.columns]
        table = table.assign(**{c: -table[c] for c in means}, low=-table["high"], high=-table["low"])
    return table.assign(worse=worse)


def chosen_lines(work: Work, primary: Mapping[str, Any]) -> list[Line]:
    """Return the lines of the primary comparison's variant: tuned where learning rates are selected, else every line.

    A comparison ``at`` one value of the grid is not about tuning.
    """
    variant = primary["variant"]
    tuned = [line for line in work.chosen if line.variant == variant and primary.get("at") is None]
    return tuned or [line for line in work.lines if line.variant == variant]


def curve_of(work: Work, line: Line, endpoint: Endpoint) -> pd.DataFrame:
    """Return the long form of a line, at the best learning rates where it is tuned."""
    return tuned_long(work, line, endpoint)[0] if line.tuned else work.scores.long(line, endpoint)


def is_primary(line: Line, endpoint: Endpoint, primary: Mapping[str, Any] | None) -> bool:
    """Return whether a curve is the one that the study's primary comparison names; a group's name means its average."""
    if not primary or line.variant != primary.get("variant") or endpoint.metric != primary.get("metric"):
        return False
    if primary.get("at") is not None and line.strength != primary["at"]:
        return False
    task = str(primary.get("task"))
    return endpoint.average if task not in endpoint.tasks and endpoint.average else endpoint.tasks == (task,)


def figure_2_lines(found: Sequence[Line], chosen: Iterable[Line]) -> list[Line]:
    """Return the lines of Figure 2: the base, the tuned ones, and those that have no learning rate to tune."""
    shown = set(in_figure_2(found))
    return [x for x in found if x.kind == "base" or x in shown] + list(chosen)
