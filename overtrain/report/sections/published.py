"""The paper's own statements where its text gives numbers, with a test of each where this study measured the same.

Source: Springer et al. (2025), "Overtrained Language Models Are Harder to Fine-Tune", abstract and Sections 2.2 and 3.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.compare import compare
from overtrain.analysis.equivalence import DIFFERENT, EQUAL, equivalence
from overtrain.analysis.verdict import format_tokens
from overtrain.report.axes import fields, trained_on
from overtrain.report.points import in_metric_direction, named
from overtrain.report.section import Section
from overtrain.report.statements import EQUALITY_SHARE, NEAR, STATEMENTS, Statement, budgets
from overtrain.report.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from overtrain.report.curves import Curve
    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Published"]

NOT_MEASURED = "not measured here"


class Published(Section):
    """The paper's statements; on the page only where the user asks for them, in the tables always."""

    key = "published"
    title = "The paper's statements, and ours"
    order = 10
    computes = ("published", "variants")

    def compute_measure(self, data: ReportData, measure: Measure) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the comparisons that statements make, where this study holds their budgets and families."""
        for statement in STATEMENTS:
            if not (statement.compare and re.search(statement.measure, measure.name, re.IGNORECASE)):
                continue
            for curve in data.headline_curves():
                known = data.cells.loc[data.cells["family"] == curve.family, "tokens"].unique().tolist()
                pair = budgets(statement, known)
                if curve.base or pair is None or not re.search(statement.family, curve.family, re.IGNORECASE):
                    continue
                if not data.scores.measured(curve, measure):
                    continue
                try:
                    row = in_metric_direction(_tested(data, curve, measure, statement, pair), measure)
                    yield "published", named(row, curve, measure, claim=statement.claim)
                except DataError as error:
                    where = (curve.family, curve.label, measure.name, f"the paper's comparison of {pair}")
                    data.leave_out(*where, why=error)

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield what each variant is and was trained on."""
        table = data.cells[["family", "variant", "modification"]].drop_duplicates(["family", "variant"])
        yield "variants", table.assign(data=list(_training_data(data).values())).reset_index(drop=True)

    def sentences(self, data: ReportData) -> Iterator[str]:
        """Yield the source, and what the tests are."""
        if data.with_published:
            yield (
                "Springer et al. (2025), arXiv 2503.19206. Checkpoints within 5% of the tokens that the text names are "
                "compared."
            )
            yield (
                'A sentence that says "lower" is tested as a difference. One that says "the level of" is tested as '
                "equivalence: two one-sided tests at 5% against a margin that was set beforehand. The margin is the study's "
                f"plateau_margin on the metric of its primary comparison, and {EQUALITY_SHARE:.0%} of the earlier checkpoint's "
                "score elsewhere. Percentages are relative to the earlier checkpoint's score; the text does not say whether "
                "its own are relative or points."
            )

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield one row per statement: what the paper says, where, and what this study measured."""
        if data.with_published:
            rows = [[s.says, s.where, "; ".join(_ours(data, s)) or NOT_MEASURED] for s in STATEMENTS]
            yield Table("", ["The paper", "where", "this study"], rows, prose=True)


def _tested(
    data: ReportData, curve: Curve, measure: Measure, statement: Statement, pair: tuple[int, int]
) -> pd.DataFrame:
    """Return the comparison of a statement's two budgets, lower is better, with the test of equality where it says so."""
    row = compare(data.long(curve, measure), *pair)
    if statement.claim != "equal":
        return row
    primary, margin = data.study.primary, data.study.plateau_margin
    if margin is not None and primary is not None and primary.metric == measure.metric:
        return equivalence(row, margin)
    return equivalence(row, EQUALITY_SHARE * row["mean_before"].abs())


def _training_data(data: ReportData) -> dict[tuple[str, str], str]:
    """Return family and variant -> the data that the variant is trained on, empty where there is none."""
    own = fields(data.results)
    cells = data.cells.drop_duplicates(["family", "variant"]).to_dict("records")
    return {(row["family"], row["variant"]): ", ".join(trained_on(row, own)) for row in cells}


def _ours(data: ReportData, statement: Statement) -> list[str]:
    table = data.frame("verdicts" if statement.compare is None else "published")
    if table.empty:
        return []
    read = _training_data(data)
    tuned = {(curve.family, curve.label) for curve in [*data.curves, *data.tuned] if curve.selectable}
    found = []
    for row in table.to_dict("records"):
        about = f"{row['variant']} {read.get((row['family'], row['variant']), '')}"
        given = ((statement.family, row["family"]), (statement.data, about), (statement.measure, row["endpoint"]))
        if (row["family"], row["line"]) in tuned and all(
            re.search(pattern, str(text), re.IGNORECASE) for pattern, text in given
        ):
            told = _compared(row, statement) if statement.compare else _inflection(row, data, statement)
            found += [told] if told else []
    return found


def _compared(row: Mapping[Any, Any], statement: Statement) -> str:
    assert statement.compare is not None
    near = [abs(row[c] / b - 1) <= NEAR for c, b in zip(("before", "after"), statement.compare, strict=True)]
    if not all(near) or row["claim"] != statement.claim:
        return ""
    bars = "" if pd.isna(row["low"]) else f", 95% interval {row['low']:.4g} to {row['high']:.4g}"
    budgets_text = f"from {format_tokens(row['before'])} to {format_tokens(row['after'])}"
    change = (
        f"{row['line']}, {row['metric']}: {row['effect']:+.4g} ({100 * row['relative']:+.2g}%) {budgets_text}{bars}"
    )
    return f"{change}: {_equality(row) if statement.claim == 'equal' else _difference(row, statement)}"


def _equality(row: Mapping[Any, Any]) -> str:
    """Return what the test of equality found, in words."""
    margin = f"the margin of {row['margin']:.4g}"
    if row["equality"] == EQUAL:
        return f"equal within {margin} (p = {row['p_equal']:.2g})"
    if row["equality"] == DIFFERENT:
        return f"not equal: the difference exceeds {margin}"
    return f"equality within {margin} is neither shown nor excluded"


def _difference(row: Mapping[Any, Any], statement: Statement) -> str:
    """Return what the test of a difference found, in words."""
    if pd.isna(row["low"]):
        return "its error is unknown, so nothing is shown"
    if row["low"] <= 0 <= row["high"]:
        return "no difference is shown"
    if not row["worse"]:
        return "the later checkpoint is better, contrary to the statement"
    if statement.more_than is None:
        return "the later checkpoint is worse, as stated"
    least, most = sorted(abs(row[end] / row["mean_before"]) for end in ("low", "high"))
    size = f"{statement.more_than:.0%}"
    if least > statement.more_than:
        return f"the later checkpoint is worse by more than {size}, as stated"
    sure = f"{size} is excluded" if most < statement.more_than else f"whether by more than {size} is open"
    return f"the later checkpoint is worse; {sure}"


def _inflection(row: Mapping[Any, Any], data: ReportData, statement: Statement) -> str:
    last = data.cells.loc[data.cells["family"] == row["family"], "tokens"].max()
    if last < statement.up_to * (1 - NEAR):
        return ""
    return f"{row['line']}, {row['metric']}: {row['sentence']}"
