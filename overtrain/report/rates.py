"""The learning rate: curves at the best rate of every checkpoint (Figures 2 and 6), the rates themselves, the distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.crossfit import cross_fitted, cross_fitted_verdict
from overtrain.analysis.distance import distance_law, distance_points
from overtrain.analysis.optima import optimum_slope, over_near_rates, rate_table, tuned_rates
from overtrain.analysis.tuned import at_tuned_rates, tuned_verdict
from overtrain.analysis.verdict import format_tokens, verdict
from overtrain.report.curves import identity_endpoint, margin, named, points, selected_by_win_rate, selection
from overtrain.report.endpoints import BIASED, main_endpoints
from overtrain.report.view import grids, number

if TYPE_CHECKING:
    from overtrain.report.endpoints import Endpoint
    from overtrain.report.view import Line
    from overtrain.report.work import Work

__all__ = ["distances", "learning_rates", "tuned_curves", "tuned_long"]


def learning_rates(work: Work) -> None:
    """Add ``rates``, ``optima``, ``slopes``, the tuned in-distribution curve, and to ``work.chosen`` the selection metric.

    A line none of whose cells has the selection metric is left out.
    """
    inside = identity_endpoint(work)
    for line, _ in grids(work.lines):
        table = selection(work, line)
        if not table["value"].notna().any():
            why = f"no cell has {inside.metric}, so no learning rate is selected and the tuned curve is left out"
            what = "run `overtrain judge`" if selected_by_win_rate(work) else "set validation_fraction"
            work.note(line.family, line.variant, why=f"{why}; {what}, or name another metric under select")
            continue
        work.chosen[line], work.rates[line] = table, rate_table(table)
        optima = tuned_rates(table)
        sign = -1.0 if inside.higher_is_better else 1.0  # as the metric itself counts
        work.add("rates", named(work.rates[line].assign(mean=sign * work.rates[line]["mean"]), line, inside))
        work.add("optima", named(optima.assign(value=sign * optima["value"].astype(float)), line, inside))
        work.add("slopes", named(optimum_slope(optima), line, inside))
        if selected_by_win_rate(work):
            continue  # the win rate is an endpoint of its own
        whole = table.rename(columns={"value": "y"}).assign(document=None, weight=1.0)
        try:
            _tuned(work, line, inside, whole, _at_best(whole, table, work.rates[line]))
        except DataError as error:
            work.note(line.family, line.label, inside.name, why=error)


def tuned_curves(work: Work, endpoint: Endpoint) -> None:
    """Add the tuned lines to ``curves``, ``verdicts`` and ``near`` on one endpoint."""
    for line in work.chosen:
        if not endpoint.concerns(line):
            continue
        try:
            best = tuned_long(work, line, endpoint)
        except DataError as error:
            work.note(line.family, line.label, endpoint.name, why=error)
            continue
        _tuned(work, line, endpoint, _long(work, line, endpoint), best)


def _long(work: Work, line: Line, endpoint: Endpoint) -> pd.DataFrame:
    """Return the scores that a tuned line is chosen from.

    Where win rates select, seeds without any are left out: what selects and what is reported are the same models.
    """
    long = work.scores.long(line, endpoint)
    if not selected_by_win_rate(work):
        return long
    there = work.chosen[line][["budget", "run", "seed"]].drop_duplicates()
    keys = ["budget", "run", "seed"]
    known = pd.MultiIndex.from_frame(there.assign(seed=there["seed"].astype("Int64").fillna(-1)))
    mine = pd.MultiIndex.from_frame(long[keys].assign(seed=long["seed"].astype("Int64").fillna(-1)))
    return long[mine.isin(known)]


def _cross_fitted(work: Work, endpoint: Endpoint) -> bool:
    return endpoint.kind == "id" and selected_by_win_rate(work) == "cross_fit"


def tuned_long(work: Work, line: Line, endpoint: Endpoint) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows at the best rates, and what was left out: budgets without a rate that is complete."""
    if (line, endpoint) not in work.tuned:
        long = _long(work, line, endpoint)
        found = _at_best(long, work.chosen[line], work.rates[line])
        if _cross_fitted(work, endpoint):
            found = cross_fitted(long[long["budget"].isin(set(found[0]["budget"]))]), found[1]
        work.tuned[line, endpoint] = found
    return work.tuned[line, endpoint]


def _at_best(long: pd.DataFrame, chosen: pd.DataFrame, rates: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    selected = set(rates.loc[rates["best"], "budget"])
    lost = sorted(set(long["budget"].unique()) - selected)
    notes = [
        f"{format_tokens(b)}: no learning rate has every seed's selection metric, so none is selected" for b in lost
    ]
    partial = rates[(rates["n_missing"] > 0) & rates["budget"].isin(selected)]
    for budget in sorted(set(partial["budget"])):
        left = ", ".join(number(r) for r in sorted(set(partial.loc[partial["budget"] == budget, "learning_rate"])))
        notes.append(f"{format_tokens(budget)}: learning rate {left} not considered, cells missing")
    kept = long[long["budget"].isin(selected)]
    if kept.empty:
        raise DataError("no checkpoint has a learning rate with a complete selection metric; run the missing cells")
    # Given the best rates alone, the analysis has nothing left to choose, and a hundred times less to do.
    best = chosen.merge(rates.loc[rates["best"], ["budget", "run", "learning_rate"]])
    return at_tuned_rates(kept, best), notes


def distances(work: Work) -> None:
    """Add ``distances`` and ``distance_law`` of every fine-tuned variant (Figure 8)."""
    variants = {
        (x.family, x.variant, x.settings): x for x in work.lines if x.kind == "finetune" and x.axis == "learning_rate"
    }
    for (family, variant, settings), example in variants.items():
        members = [x for x in work.lines if (x.family, x.variant, x.settings) == (family, variant, settings)]
        table = pd.concat([work.scores.training(x, "distance") for x in members], ignore_index=True)
        table = table.rename(columns={"value": "distance"})
        if not table["distance"].notna().any():
            work.note(family, variant, why="no cell recorded its distance from the base, so Figure 8 lacks it")
            continue
        about = {"family": family, "variant": example.variant, "settings": ", ".join(f"{k} {v}" for k, v in settings)}
        work.add("distances", distance_points(table).assign(**about))
        try:
            work.add("distance_law", distance_law(table).assign(**about))
        except DataError as error:
            work.note(family, variant, "distance against learning rate", why=error)


def _tuned(
    work: Work, line: Line, endpoint: Endpoint, long: pd.DataFrame, at_best: tuple[pd.DataFrame, list[str]]
) -> None:
    best, lost = at_best
    try:
        curve = points(best, endpoint, "value")
        missing = "; ".join([*lost, *filter(None, [curve["missing"].iloc[0]])])
        gaps = pd.DataFrame({"budget": sorted(set(long["budget"].unique()) - set(curve["budget"])), "gap": True})
        curve = pd.concat([curve, gaps], ignore_index=True).sort_values("budget") if len(gaps) else curve
        work.add("curves", named(curve.assign(missing=missing), line, endpoint, quantity="value"))
        _near(work, line, endpoint, long)
        work.add("verdicts", named(_verdict(work, line, endpoint, long, best), line, endpoint))
    except DataError as error:
        work.note(line.family, line.label, endpoint.name, why=error)


def _verdict(work: Work, line: Line, endpoint: Endpoint, long: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    quantity = f"{endpoint.quantity} {line.phrase}"
    limit, chosen = margin(endpoint, work.study), work.chosen[line]
    try:
        kept = set(best["budget"])
        long, chosen = long[long["budget"].isin(kept)], chosen[chosen["budget"].isin(kept)]
        if _cross_fitted(work, endpoint):
            return cross_fitted_verdict(long, margin=limit, quantity=f"{quantity} (cross-fitted)")
        how = selected_by_win_rate(work)
        itself = endpoint.kind == "id" and how == "reported"
        scores = None if how is None or itself else _selecting(work, line, kept)
        told = tuned_verdict(long, chosen, margin=limit, quantity=quantity, scores=scores, itself=itself)
    except DataError as error:
        why = f"the test takes the selected rates as given, because selection cannot be repeated ({error})"
        work.note(line.family, line.label, endpoint.name, why=why)
        told = verdict(best, margin=limit, quantity=quantity)
    biased = f" {BIASED[0].upper()}{BIASED[1:]}." if endpoint.of == "tuned" else ""
    return told.assign(sentence=told["sentence"] + biased)


def _selecting(work: Work, line: Line, budgets: set[int]) -> pd.DataFrame | None:
    """Return the win rates per instruction that selected, None where there are none."""
    judged = [e for e in work.endpoints if e.kind == "id"]
    scores = work.scores.long(line, judged[-1]) if judged else None
    if scores is None or scores["document"].isna().all():
        return None
    return scores[scores["budget"].isin(budgets)]


def _near(work: Work, line: Line, endpoint: Endpoint, long: pd.DataFrame) -> None:
    """Add the spread of the endpoint over the rates that selection cannot tell apart, in the metric's own direction."""
    if endpoint.kind != "id" and endpoint not in main_endpoints(work.endpoints):
        return
    weighted = long.assign(total=long["y"] * long["weight"])
    cells = weighted.groupby(["budget", "run", "seed", "learning_rate"], dropna=False)[["total", "weight"]].sum(
        min_count=1
    )
    target = cells.assign(value=cells["total"] / cells["weight"]).reset_index()
    near = over_near_rates(work.chosen[line], target)
    if endpoint.higher_is_better:
        near = near.assign(value=-near["value"], low=-near["high"], high=-near["low"])
    work.add("near", named(near, line, endpoint))
