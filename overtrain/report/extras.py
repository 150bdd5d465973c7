"""What stands beside the curves: transitions, equal base loss, variance shares, jitter and A/A checks."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.checks import halves, sham
from overtrain.analysis.jitter import jitter
from overtrain.analysis.matched import matched_base_loss
from overtrain.analysis.shares import variance_shares
from overtrain.analysis.transitions import transitions
from overtrain.report.comparisons import curve_of, figure_2_lines
from overtrain.report.curves import named

if TYPE_CHECKING:
    from overtrain.report.endpoints import Endpoint
    from overtrain.report.work import Work

__all__ = ["checks", "matched", "shares", "turned"]


def turned(work: Work, endpoint: Endpoint) -> None:
    """Add ``transitions`` from the base to the modified model at every budget, on one accuracy of one benchmark."""
    lines = figure_2_lines(work.lines, work.chosen)
    bases = {x.family: x for x in lines if x.kind == "base"}
    for line in [x for x in lines if x.kind != "base" and x.family in bases]:
        try:
            # The long forms are oriented: accuracies carry a minus sign there.
            pair = [_raw(curve_of(work, x, endpoint)) for x in (bases[line.family], line)]
            for budget in sorted(set(pair[1]["budget"]) & set(pair[0]["budget"])):
                sides = [side[side["budget"] == budget] for side in pair]
                work.add("transitions", named(transitions(*sides), line, endpoint, budget=budget))
        except DataError as error:
            work.note(line.family, line.label, endpoint.name, "transitions", why=error)


def _raw(long: pd.DataFrame) -> pd.DataFrame:
    present = long.dropna(subset=["y"])
    return present.assign(y=-present["y"])


def matched(work: Work) -> None:
    """Add ``matched``: families at equal base loss, for every variant that several families have."""
    curves = work.frames.get("curves")
    families = sorted({x.family for x in work.lines})
    if len(families) < 2 or curves is None:
        work.notes.append("A comparison at matched base loss needs two families of checkpoints; the study has one.")
        return
    outside = {e.name for e in work.endpoints if e.kind != "id"}
    curves = curves[(curves["quantity"] == "value") & curves["endpoint"].isin(outside)]
    base = curves[curves["kind"] == "base"].set_index(["family", "endpoint", "metric", "budget"])["mean"]
    higher = {(e.name, e.metric): e.higher_is_better for e in work.endpoints}
    named_lines = {x.label for x in [*work.lines, *work.chosen] if x.kind != "base"}
    for (label, name, metric), part_of in curves[curves["line"].isin(named_lines)].groupby(
        ["line", "endpoint", "metric"]
    ):
        sign = -1.0 if higher[str(name), str(metric)] else 1.0
        keys = list(zip(part_of["family"], part_of["endpoint"], part_of["metric"], part_of["budget"], strict=True))
        points = pd.DataFrame(
            {
                "group": part_of["family"].to_numpy(),
                "base": sign * base.reindex(keys).to_numpy(),
                "value": sign * part_of["mean"].to_numpy(float),
                "se": part_of["se"].to_numpy(float),
            }
        )
        for one, other in combinations(sorted(set(points["group"])), 2):
            try:
                table = matched_base_loss(points, one, other)
            except DataError as error:
                work.note(label, name, f"matched base loss of {one} and {other}", why=error)
                continue
            if table.empty:
                work.note(label, name, why=f"{one} and {other} share no range of base loss; nothing is extrapolated")
            about = {"line": label, "endpoint": name, "metric": metric, "reference_family": one, "other_family": other}
            work.add("matched", table.assign(**about))


def shares(work: Work, endpoint: Endpoint) -> None:
    """Add ``shares``: which benchmark carries the document variance of an average, at the last base checkpoint."""
    for base in [x for x in work.lines if x.kind == "base"]:
        rows = work.scores.tasks(base, endpoint).dropna(subset=["y"])
        if rows.empty or rows["document"].isna().all():
            continue
        last = rows[rows["budget"] == rows["budget"].max()]
        last = last[last["run"] == last["run"].iloc[0]]
        try:
            work.add("shares", named(variance_shares(last), base, endpoint, budget=int(last["budget"].iloc[0])))
        except DataError as error:
            work.note(base.family, endpoint.name, "variance shares", why=error)


def checks(work: Work, endpoint: Endpoint) -> None:
    """Add ``halves`` (two halves of the seeds must agree), ``jitter`` (neighbouring checkpoints) and ``sham``.

    A line whose strength is 0 modifies nothing: its sensitivity must be 0 at every budget.
    """
    bases = {line.family: line for line in work.lines if line.kind == "base"}
    for line in work.lines:
        if not endpoint.concerns(line):
            continue
        try:
            long = work.scores.long(line, endpoint)
            work.add("jitter", named(jitter(long), line, endpoint))
            if line.kind != "base":
                work.add("halves", named(halves(long), line, endpoint))
            if line.strength == 0 and line.family in bases:
                work.add("sham", named(sham(long, work.scores.long(bases[line.family], endpoint)), line, endpoint))
        except DataError:
            continue  # too few seeds for halves, or a curve without results: said where the curve is
