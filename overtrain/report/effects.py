"""Sentences for the top of the page: which curves are shown to turn, and which sensitivities to grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.analysis.family import expected_false
from overtrain.analysis.verdict import format_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from overtrain.report.data import ReportData

__all__ = ["RISES", "sensitivity_trend", "shown_to_turn"]

RISES = ("turn", "U")
"""Verdicts that show a rise with more pre-training."""


def shown_to_turn(data: ReportData, what: str, mine: Callable[[pd.DataFrame], pd.Series]) -> Iterator[str]:
    """Yield whether the curves that ``mine`` picks turn on the main measures, or that the study does not show it.

    Args:
        data: of the report.
        what: how the sentence begins.
        mine: from rows of ``verdicts`` to a mask over them.
    """
    verdicts = data.frame("verdicts")
    if verdicts.empty:
        return
    names = {(m.name, m.metric) for m in data.main}
    on_main = [pair in names for pair in zip(verdicts["endpoint"], verdicts["metric"], strict=True)]
    main = verdicts[on_main]
    rows = main[mine(main)]
    if rows.empty:
        return
    turning = int(rows["verdict"].isin(RISES).sum())
    if turning:
        yield f"{what}, {_of(turning, len(rows))} shown to turn{_by_chance(len(rows))}{_in_family(rows)}."
    else:
        last = format_tokens(_last(data.frame("curves"), rows))
        yield (
            f"{what}, none of {len(rows)} curves is shown to turn up to {last} tokens: this study does not show the "
            "paper's effect there. That is no evidence of its absence at other sizes."
        )


def _last(curves: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Return the largest budget that all of these curves reach."""
    keys = ["family", "line", "endpoint", "metric"]
    reached = curves[(curves["quantity"] == "value") & ~curves["gap"]].merge(rows[keys], on=keys)
    return float(reached.groupby(keys)["budget"].max().min())


def sensitivity_trend(data: ReportData, what: str, mine: Callable[[pd.DataFrame], pd.Series]) -> Iterator[str]:
    """Yield how many sensitivities are shown to grow with tokens, and how many to shrink."""
    trends = data.frame("trends")
    if trends.empty:
        return
    trends = trends[mine(trends)]
    for quantity, unit in (("sensitivity", "in the metric itself"), ("sensitivity_perplexity", "in perplexity")):
        rows = trends[trends["quantity"] == quantity]
        if rows.empty:
            continue
        grows, shrinks = int(rows["grows"].sum()), int(rows["shrinks"].sum())
        tail = "" if grows else " Progressive sensitivity is not shown there."
        yield (
            f"{what}, sensitivity {unit}: {_of(grows, len(rows))} shown to grow with tokens, {shrinks} to shrink"
            f"{_by_chance(len(rows))}.{tail}"
        )


def _of(count: int, total: int) -> str:
    return f"{count} of {total} curves {'is' if count == 1 else 'are'}" if total > 1 else f"{count} of 1 curve is"


def _by_chance(curves: int) -> str:
    """Say how many of so many findings chance alone would make."""
    return f" (by chance alone up to {expected_false(curves):.2g} would be)" if curves > 1 else ""


def _in_family(rows: pd.DataFrame) -> str:
    """Say how many turns are left when all curves of the study are taken together."""
    if "verdict_family" not in rows.columns or rows["verdict_family"].isna().all():
        return ""
    left, size = int(rows["verdict_family"].isin(RISES).sum()), int(rows["n_family"].max())
    return f", {left} after adjusting for all {size} curves" if size > 1 else ""
