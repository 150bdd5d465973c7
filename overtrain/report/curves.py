"""The points, verdicts and trends of every curve at fixed settings (Figures 3, 4 and 5), and of the base models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.curves import perplexity, sensitivity, summarise, trend
from overtrain.analysis.verdict import verdict
from overtrain.report.endpoints import Endpoint
from overtrain.report.view import TRAINING, Line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from overtrain.report.work import Work

__all__ = [
    "fixed_curves",
    "identity_curves",
    "identity_endpoint",
    "in_figure_2",
    "margin",
    "named",
    "points",
    "selected_by_win_rate",
    "selection",
]


def fixed_curves(work: Work, endpoint: Endpoint, *, main: bool) -> None:
    """Add ``curves``, ``verdicts`` and ``trends`` on one endpoint: of every line on a main one, else of those of Figure 2."""
    shown = in_figure_2(work.lines)
    bases = {line.family: line for line in work.lines if line.kind == "base"}
    for line in work.lines:
        if not endpoint.concerns(line) or not (main or line.kind == "base" or line in shown):
            continue
        try:
            modified = work.scores.long(line, endpoint)
        except DataError as error:
            work.note(line.family, line.label, endpoint.name, why=error)
            continue
        _curve(work, line, endpoint, modified)
        if main and line.kind != "base" and endpoint.kind != "id":
            if line.family in bases:
                _sensitivity(work, line, endpoint, modified, work.scores.long(bases[line.family], endpoint))
            else:
                work.note(line.family, line.label, why="no base cells, so no sensitivity and no base curve")


def identity_curves(work: Work) -> None:
    """Add to ``curves`` and ``verdicts`` the in-distribution metric of every fine-tuned line (Figure 5, bottom)."""
    endpoint = identity_endpoint(work)
    if selected_by_win_rate(work):
        return  # an endpoint of its own
    for line in work.lines:
        if line.kind != "finetune":
            continue
        table = selection(work, line)
        if table["value"].notna().any():
            long = table.rename(columns={"value": "y"}).assign(document=None, weight=1.0)
            _curve(work, line, endpoint, long.drop(columns="learning_rate"))
        else:
            work.note(
                line.family, line.label, why=f"no cell has {endpoint.metric}, so there is no in-distribution curve"
            )


def in_figure_2(found: Sequence[Line]) -> list[Line]:
    """Return the lines that Figure 2 shows without tuning: one learning rate only, or modified elsewhere."""
    alone: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Line]] = {}
    for line in found:
        if line.kind in {"finetune", "other"}:
            alone.setdefault((line.family, line.variant, line.settings), []).append(line)
    return [members[0] for members in alone.values() if len(members) == 1]


def identity_endpoint(work: Work) -> Endpoint:
    """Return what selects the learning rate: the study's ``select``, by default ``validation_loss`` of the training."""
    frame, chosen = work.scores.frame, work.study.get("select") or {}
    metric, task = str(chosen.get("metric", "validation_loss")), str(chosen.get("task") or TRAINING)
    rows = frame[(frame["task"] == task) & (frame["metric"] == metric)]
    higher = bool(rows["higher_is_better"].dropna().any()) if task != TRAINING else False
    name = "the fine-tuning data" if task == TRAINING else task
    return Endpoint(name, (task,), metric, "nats" if metric == "validation_loss" else "other", higher, "id")


def selected_by_win_rate(work: Work) -> str | None:
    """Return how win rates select the learning rate, ``cross_fit`` or ``reported``; None where another metric does."""
    how = (work.study.get("select") or {}).get("how")
    return how if how in {"cross_fit", "reported"} else None


def selection(work: Work, line: Line) -> pd.DataFrame:
    """Return `Scores.training` of the selection metric, oriented: lower is better."""
    endpoint = identity_endpoint(work)
    table = work.scores.training(line, endpoint.metric, endpoint.tasks[0])
    return table.assign(value=-table["value"]) if endpoint.higher_is_better else table


def margin(endpoint: Endpoint, study: Mapping[str, Any]) -> float | None:
    """Return the study's plateau margin where it applies: on the metric of the primary comparison."""
    value, primary = study.get("plateau_margin"), study.get("primary")
    if value is None or (primary and primary.get("metric") != endpoint.metric):
        return None
    return float(value)


def named(frame: pd.DataFrame, line: Line, endpoint: Endpoint, **more: Any) -> pd.DataFrame:
    """Put the columns that name a curve before the others."""
    about = {
        "family": line.family,
        "variant": line.variant,
        "line": line.label,
        "kind": line.kind,
        "axis": line.axis or "",
        "strength": np.nan if line.strength is None else line.strength,
        "tuned": line.tuned,
        "endpoint": endpoint.name,
        "metric": endpoint.metric,
        **more,
    }
    result = frame.copy()
    for place, (column, value) in enumerate(about.items()):
        result.insert(place, column, value)
    return result


def points(long: pd.DataFrame, endpoint: Endpoint, quantity: str) -> pd.DataFrame:
    """Return `summarise` with a row for every budget, ``gap`` where there is no value, in the metric's own direction."""
    every = pd.DataFrame({"budget": sorted(long["budget"].unique())})
    table = summarise(long)
    if quantity == "value" and endpoint.higher_is_better:
        low, high = -table["high"], -table["low"]
        table = table.assign(mean=-table["mean"], low=low, high=high, step=-table["step"])
    if quantity == "value" and endpoint.scale == "nats":
        table = perplexity(table)
    missing = table["missing"].iloc[0]
    table = every.merge(table, on="budget", how="left")
    return table.assign(missing=missing, gap=table["mean"].isna())


def _curve(work: Work, line: Line, endpoint: Endpoint, long: pd.DataFrame) -> None:
    try:
        work.add("curves", named(points(long, endpoint, "value"), line, endpoint, quantity="value"))
        told = verdict(long, margin=margin(endpoint, work.study), quantity=f"{endpoint.quantity} {line.phrase}")
        work.add("verdicts", named(told, line, endpoint))
    except DataError as error:
        work.note(line.family, line.label, endpoint.name, why=error)


def _sensitivity(work: Work, line: Line, endpoint: Endpoint, modified: pd.DataFrame, base: pd.DataFrame) -> None:
    wanted = [("sensitivity", "loss")] + (
        [("sensitivity_perplexity", "perplexity")] if endpoint.scale == "nats" else []
    )
    for quantity, scale in wanted:
        try:
            difference = sensitivity(modified, base, scale)  # type: ignore[arg-type]
            work.add("curves", named(points(difference, endpoint, quantity), line, endpoint, quantity=quantity))
            work.add("trends", named(trend(difference), line, endpoint, quantity=quantity))
        except DataError as error:
            work.note(line.family, line.label, endpoint.name, "sensitivity", why=error)
