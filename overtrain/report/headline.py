"""The verdict at the top of the page, and what the study does not show. Nothing here knows what should come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from overtrain.analysis.verdict import format_tokens
from overtrain.report.comparisons import is_primary
from overtrain.report.endpoints import main_endpoints
from overtrain.report.sentences import comparison, minimum

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from overtrain.report.assemble import Assembled

__all__ = ["TURNS", "effects", "headline", "limit", "primary"]

TURNS = ("turn", "U")
"""Verdicts that show a rise with more pre-training."""

_KINDS = (
    ("After noise", "noise", False),
    ("After fine-tuning at a fixed learning rate", "finetune", False),
    ("At the tuned learning rate", "finetune", True),
    ("After other modifications", "other", False),
)


def headline(made: Assembled) -> str:
    """Return the verdict in one sentence: on the primary comparison's curve, else on the first endpoint."""
    rows = _headline_rows(made)
    if rows.empty:
        return "No modified curve has a result yet, so there is no verdict."
    if len(rows) == 1:
        return str(rows["sentence"].iloc[0])
    units = {(e.name, e.metric): e.unit for e in made.endpoints}
    parts = []
    for (family, variant), part in rows.groupby(["family", "variant"], sort=True):
        turned = part[part["verdict"].isin(TURNS)].to_dict("records")
        name, metric = part["endpoint"].iloc[0], part["metric"].iloc[0]
        what = f"{units[name, metric]} on {name} after {variant} ({family})"
        if turned:
            which = "; ".join(f"{_setting(row)}: minimum {minimum(row)}" for row in turned)
            parts.append(f"{what} turns at {len(turned)} of {len(part)} settings ({which}, 95% confidence)")
        else:
            parts.append(f"no turn of {what} is established at any of {len(part)} settings")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} ({_basis(rows)})."


def _headline_rows(made: Assembled) -> pd.DataFrame:
    verdicts, named = made.frame("verdicts"), made.study.get("primary")
    if verdicts.empty:
        return verdicts
    if named:
        ends = {(e.name, e.metric): e for e in made.endpoints}
        lines = {(x.family, x.label): x for x in [*made.lines, *made.tuned]}
        kept = [
            (row["endpoint"], row["metric"]) in ends
            and is_primary(lines[row["family"], row["line"]], ends[row["endpoint"], row["metric"]], named)
            for row in verdicts.to_dict("records")
        ]
        rows = verdicts[kept]
        if len(rows):
            return rows[rows["tuned"]] if rows["tuned"].any() else rows
    first = main_endpoints(made.endpoints)[:1]
    if not first:
        return verdicts.iloc[:0]
    rows = verdicts[(verdicts["endpoint"] == first[0].name) & (verdicts["metric"] == first[0].metric)]
    rows = rows[rows["kind"] != "base"]
    with_tuned = rows.groupby(["family", "variant"])["tuned"].transform("any")
    return rows[rows["tuned"] | ~with_tuned]


def _setting(row: Mapping[Any, Any]) -> str:
    return str(row["line"]).removeprefix(f"{row['variant']}, ")


def _basis(rows: pd.DataFrame) -> str:
    seeds, documents, runs = (int(rows[c].min()) for c in ("n_seeds", "n_documents", "n_runs"))
    parts = [f"{seeds} seeds" if seeds > 1 else "1 seed, so seeds are not covered"]
    parts.append(f"{documents} documents" if documents > 1 else "no scores per document, so documents are not covered")
    one = "one pre-training run per budget, so no interval covers another pre-training"
    return "; ".join([*parts, f"{runs} pre-training runs per budget" if runs > 1 else one])


def limit(made: Assembled) -> str:
    """Return what no interval of the page covers."""
    per_budget = made.cells.groupby(["family", "tokens"])["run"].nunique()
    if per_budget.max() < 2:
        what = "One pre-training run: no interval on this page covers another pre-training."
    elif per_budget.min() < 2:
        what = "Some budgets have one pre-training run only; intervals there do not cover another pre-training."
    else:
        what = f"{per_budget.min()} pre-training runs per budget, which the intervals cover."
    return (
        f"{what} Nor does any cover another model size, other fine-tuning data or other benchmarks. The order of budgets is "
        "tested; curves only join what was measured."
    )


def primary(made: Assembled) -> list[str]:
    """Return the primary comparison in words, or that it could not be made."""
    table, named = made.frame("comparisons"), made.study.get("primary")
    rows = table[table["primary"]] if len(table) else table
    if len(rows):
        return [f"Primary comparison: {comparison(row)}" for row in rows.to_dict("records")]
    if not named:
        return []
    before, after = (format_tokens(b) for b in named["compare"])
    what = f"{after} against {before} tokens, {named['metric']} on {named['task']} after {named['variant']}"
    return [f"Primary comparison, {what}: not possible, a result is missing (see Left out, and why)."]


def effects(made: Assembled) -> list[str]:
    """Say for each kind of modification whether this study shows the paper's effect, and where it does not."""
    verdicts, trends = made.frame("verdicts"), made.frame("trends")
    if verdicts.empty:
        return []
    names = {(e.name, e.metric) for e in main_endpoints(made.endpoints)}
    shown = verdicts[[pair in names for pair in zip(verdicts["endpoint"], verdicts["metric"], strict=True)]]
    found = []
    for what, kind, tuned in _KINDS:
        rows = shown[(shown["kind"] == kind) & (shown["tuned"] == tuned)]
        if rows.empty:
            continue
        turned = int(rows["verdict"].isin(TURNS).sum())
        if turned:
            found.append(f"{what}, {_of(turned, len(rows))} shown to turn.")
        else:
            last = format_tokens(_last(made.frame("curves"), rows))
            found.append(
                f"{what}, none of {len(rows)} curves is shown to turn up to {last} tokens: this study does not show the "
                "paper's effect there. That is no evidence of its absence at other sizes."
            )
        if not tuned and len(trends):
            found += _sensitivity(trends[trends["kind"] == kind], what)
    return found


def _last(curves: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Return the largest budget that all of these curves reach."""
    keys = ["family", "line", "endpoint", "metric"]
    reached = curves[(curves["quantity"] == "value") & ~curves["gap"]].merge(rows[keys], on=keys)
    return float(reached.groupby(keys)["budget"].max().min())


def _sensitivity(trends: pd.DataFrame, what: str) -> list[str]:
    sentences = []
    for quantity, unit in (("sensitivity", "in the metric itself"), ("sensitivity_perplexity", "in perplexity")):
        rows = trends[trends["quantity"] == quantity]
        if rows.empty:
            continue
        grows, shrinks = int(rows["grows"].sum()), int(rows["shrinks"].sum())
        tail = "" if grows else " Progressive sensitivity is not shown there."
        sentences.append(
            f"{what}, sensitivity {unit}: {_of(grows, len(rows))} shown to grow with tokens, {shrinks} to shrink.{tail}"
        )
    return sentences


def _of(count: int, total: int) -> str:
    return f"{count} of {total} curves {'is' if count == 1 else 'are'}" if total > 1 else f"{count} of 1 curve is"
