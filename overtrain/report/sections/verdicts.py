"""What each curve does: falls, turns, stays flat, or cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from model_wrappers.errors import DataError
from overtrain.analysis.checks import failed_checks
from overtrain.analysis.crossfit import cross_fitted_verdict
from overtrain.analysis.family import adjusted_verdicts, in_family
from overtrain.analysis.tuned import tuned_verdict
from overtrain.analysis.verdict import verdict
from overtrain.report.effects import RISES
from overtrain.report.measures import BIASED
from overtrain.report.points import named
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of
from overtrain.report.words import minimum

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from overtrain.report.curves import Curve
    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Verdicts"]

_COLUMNS = {
    "family": "family",
    "line": "curve",
    "endpoint": "on",
    "metric": "metric",
    "verdict": "verdict",
    "inflection": "lowest at",
    "minimum": "95%",
    "first_rise": "first rise after",
    "rise": "rise T",
    "fall": "fall T",
    "critical": "critical",
    "p_rise": "p (rise)",
    "p_rise_family": "p (family)",
    "verdict_family": "verdict in the family",
    "rise_not_excluded": "rise not excluded",
    "failed_checks": "failed checks",
    "n_seeds": "seeds",
    "n_documents": "documents",
    "n_runs": "runs",
    "missing": "missing",
}
_NOTE = (
    "T is the largest difference of an earlier and a later budget in units of its standard error; the critical value is the "
    "95% quantile of T when all budgets are equal, simulated for this design. Each verdict is a test of its own at 5%. The "
    "family is every modified curve on one metric of each measure; its p-values and verdicts are adjusted for all of it. A "
    "rise up to the size that is not excluded may have been missed."
)


class Verdicts(Section):
    """The verdict on every curve."""

    key = "verdicts"
    title = "What each curve does"
    order = 100
    computes = ("verdicts",)
    reads_selection: ClassVar[bool] = True

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the verdict on every curve that has values."""
        for curve in data.curves_on(measure):
            if data.has_curve(curve, measure):
                try:
                    told = _tuned(data, curve, measure) if curve.tuned else _fixed(data, curve, measure)
                    yield "verdicts", named(told, curve, measure)
                except DataError as error:
                    data.leave_out(curve.family, curve.label, measure.name, why=error)

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Adjust the verdicts for all modified curves together, and put failed checks beside the verdicts they concern."""
        table = data.frame("verdicts")
        if len(table):
            yield "verdicts", _said(_with_failed_checks(data, _with_family(data, table)))

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield the verdicts on the main measures, and those on single benchmarks."""
        verdicts = data.frame("verdicts")
        if verdicts.empty:
            return
        single = {(m.name, m.metric) for m in data.measures} - {(m.name, m.metric) for m in data.main}
        verdicts = verdicts.assign(minimum=[minimum(row) for row in verdicts.to_dict("records")])
        apart = [pair in single for pair in zip(verdicts["endpoint"], verdicts["metric"], strict=True)]
        yield table_of("Verdicts", verdicts[[not x for x in apart]], _COLUMNS, _NOTE)
        yield table_of("Verdicts by benchmark", verdicts[apart], _COLUMNS, _NOTE, folded=True)


def _margin(data: ReportData, measure: Measure) -> float | None:
    """Return the study's plateau margin where it applies: on the metric of the primary comparison."""
    value, primary = data.study.plateau_margin, data.study.primary
    if value is None or (primary and primary.metric != measure.metric):
        return None
    return value


def _with_family(data: ReportData, table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of `adjusted_verdicts`, missing for curves outside the family."""
    outside = {(m.name, m.metric) for m in data.measures if m.outside}
    on_outside = [pair in outside for pair in zip(table["endpoint"], table["metric"], strict=True)]
    candidates = table[on_outside]
    metrics = list(dict.fromkeys(m.metric for m in data.measures))
    places = candidates.index[in_family(candidates, metrics=metrics)] if len(candidates) else candidates.index
    if not len(places):
        return table
    limits = {(m.name, m.metric): _margin(data, m) for m in data.measures}
    margins = [limits[pair] for pair in table.loc[places, ["endpoint", "metric"]].itertuples(index=False, name=None)]
    adjusted = adjusted_verdicts([data.tests[place] for place in places], margins).set_index(places)
    return table.drop(columns=adjusted.columns, errors="ignore").join(adjusted)


def _with_failed_checks(data: ReportData, table: pd.DataFrame) -> pd.DataFrame:
    checks = {
        "two halves of the seeds differ": data.frame("halves"),
        "a modification of strength 0 changes the scores": data.frame("sham"),
    }
    return table.assign(failed_checks=failed_checks(table, checks))


def _said(table: pd.DataFrame) -> pd.DataFrame:
    """Add the verdict in the family and failed checks to the sentences, once."""
    sentences = []
    for row in table.to_dict("records"):
        more = []
        if row["verdict"] in RISES and str(row.get("verdict_family", row["verdict"])) not in {*RISES, "nan"}:
            more.append(f" Adjusted for the {int(row['n_family'])} curves of the study, no turn is established.")
        if row["failed_checks"]:
            more.append(f" A check of this curve failed: {row['failed_checks']}.")
        said = str(row["sentence"])
        sentences.append(said + "".join(text for text in more if text not in said))
    return table.assign(sentence=sentences)


def _fixed(data: ReportData, curve: Curve, measure: Measure) -> pd.DataFrame:
    quantity = f"{measure.quantity} {curve.phrase}"
    return verdict(data.long(curve, measure), margin=_margin(data, measure), quantity=quantity, collect=data.tests)


def _tuned(data: ReportData, curve: Curve, measure: Measure) -> pd.DataFrame:
    """Return the verdict on a tuned curve, which covers the choice of the rate where the selection can be repeated."""
    quantity, margin = f"{measure.quantity} {curve.phrase}", _margin(data, measure)
    best = data.long(curve, measure)
    kept = set(best["budget"])
    how = data.selection.how
    try:
        long, chosen = data.selection.candidates(curve, measure), data.selection.metric[curve]
        long, chosen = long[long["budget"].isin(kept)], chosen[chosen["budget"].isin(kept)]
        if data.selection.cross_fits(measure):
            return cross_fitted_verdict(long, margin=margin, quantity=f"{quantity} (cross-fitted)", collect=data.tests)
        itself = not measure.outside and how == "reported"
        scores = None if how is None or itself else _selecting_scores(data, curve, kept)
        told = tuned_verdict(
            long, chosen, margin=margin, quantity=quantity, scores=scores, itself=itself, collect=data.tests
        )
    except DataError as error:
        why = f"the test takes the selected rates as given, because selection cannot be repeated ({error})"
        data.leave_out(curve.family, curve.label, measure.name, why=why)
        told = verdict(best, margin=margin, quantity=quantity, collect=data.tests)
    biased = f" {BIASED[0].upper()}{BIASED[1:]}." if measure.covers == "tuned" else ""
    return told.assign(sentence=told["sentence"] + biased)


def _selecting_scores(data: ReportData, curve: Curve, budgets: set[int]) -> pd.DataFrame | None:
    """Return the win rates per instruction that selected, None where there are none."""
    judged = [m for m in data.measures if not m.outside]
    scores = data.scores.long(curve, judged[-1]) if judged else None
    if scores is None or scores["document"].isna().all():
        return None
    return scores[scores["budget"].isin(budgets)]
