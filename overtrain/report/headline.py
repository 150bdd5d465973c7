"""The verdict at the top of the page, and what the study does not show. Nothing here knows what should come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from overtrain.analysis.verdict import format_tokens
from overtrain.report.effects import RISES
from overtrain.report.words import comparison, minimum

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from overtrain.report.data import ReportData

__all__ = ["headline", "limit", "primary"]


def headline(data: ReportData) -> str:
    """Return the verdict in one sentence: on the primary comparison's curve, else on the first main measure."""
    rows = _headline_rows(data)
    if rows.empty:
        return "No modified curve has a result yet, so there is no verdict."
    if len(rows) == 1:
        return str(rows["sentence"].iloc[0])
    units = {(m.name, m.metric): m.unit for m in data.measures}
    parts = []
    for (family, variant), part in rows.groupby(["family", "variant"], sort=True):
        turning = part[part["verdict"].isin(RISES)].to_dict("records")
        name, metric = part["endpoint"].iloc[0], part["metric"].iloc[0]
        what = f"{units[name, metric]} on {name} after {variant} ({family})"
        if turning:
            which = "; ".join(f"{_setting(row)}: minimum {minimum(row)}" for row in turning)
            parts.append(f"{what} turns at {len(turning)} of {len(part)} settings ({which}, 95% confidence)")
        else:
            parts.append(f"no turn of {what} is established at any of {len(part)} settings")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} ({_basis(rows)})."


def _headline_rows(data: ReportData) -> pd.DataFrame:
    verdicts, named = data.frame("verdicts"), data.study.primary
    if verdicts.empty:
        return verdicts
    if named:
        measures = {(m.name, m.metric): m for m in data.measures}
        curves = {(x.family, x.label): x for x in [*data.curves, *data.tuned]}
        kept = [
            (row["endpoint"], row["metric"]) in measures
            and data.is_primary(curves[row["family"], row["line"]], measures[row["endpoint"], row["metric"]])
            for row in verdicts.to_dict("records")
        ]
        rows = verdicts[kept]
        if len(rows):
            return rows[rows["tuned"]] if rows["tuned"].any() else rows
    first = data.main[:1]
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


def limit(data: ReportData) -> str:
    """Return what no interval of the page covers."""
    per_budget = data.cells.groupby(["family", "tokens"])["run"].nunique()
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


def primary(data: ReportData) -> list[str]:
    """Return the primary comparison in words, or that it could not be computed."""
    table, named = data.frame("comparisons"), data.study.primary
    rows = table[table["primary"]] if len(table) else table
    if len(rows):
        return [f"Primary comparison: {comparison(row)}" for row in rows.to_dict("records")]
    if not named:
        return []
    before, after = (format_tokens(b) for b in named.compare)
    what = f"{after} against {before} tokens, {named.metric} on {named.task} after {named.variant}"
    return [f"Primary comparison, {what}: not possible, a result is missing (see Left out, and why)."]
