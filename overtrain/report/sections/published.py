"""The paper's own statements where its text gives numbers, with ours beside them where this study measured the same.

Source: Springer et al. (2025), "Overtrained Language Models Are Harder to Fine-Tune", abstract and Sections 2.2 and 3.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.compare import compare
from overtrain.analysis.verdict import format_tokens
from overtrain.report.axes import fields, trained_on
from overtrain.report.points import in_metric_direction, named
from overtrain.report.section import Section
from overtrain.report.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from overtrain.report.data import ReportData
    from overtrain.report.measures import Measure

__all__ = ["Published"]

NOT_MEASURED = "not measured here"
_NEAR = 0.05
"""Checkpoints within 5% of the tokens that the paper's text rounds to are taken as the ones it means."""


@dataclass(frozen=True)
class Statement:
    """One number of the paper's text.

    Attributes:
        says: in our words.
        where: in the paper.
        family: pattern for the family of checkpoints.
        data: pattern for the variant or its fine-tuning data.
        measure: pattern for what is measured.
        compare: budgets that the statement compares, or None for one about the inflection point.
        up_to: tokens that the study must reach for a statement about the inflection point to be checked.
    """

    says: str
    where: str
    family: str
    data: str
    measure: str
    compare: tuple[float, float] | None = None
    up_to: float = 3e12


_OLMO_1B, _OLMO_7B = r"olmo[-_ ]?1b", r"olmo[-_ ]?(2[-_ ].*)?7b"
_BENCHMARKS, _JUDGED = r"average of \d+ benchmarks|overtrain_(ten|core8)", r"alpaca_?eval"
STATEMENTS = (
    Statement(
        "OLMo-1B, instruction-tuned: over 2% worse at 3T tokens than at 2.3T on multiple standard benchmarks",
        "abstract", _OLMO_1B, r"hh|tulu", _BENCHMARKS, (2.3e12, 3e12),
    ),
    Statement(
        "OLMo-1B tuned on Anthropic-HH: AlpacaEval score up to 3% lower at 3T tokens than at 2.3T",
        "Section 2.2", _OLMO_1B, r"hh", _JUDGED, (2.3e12, 3e12),
    ),
    Statement(
        "OLMo-1B, instruction-tuned: at 3T tokens down to the level of 1.5T",
        "Section 2.2", _OLMO_1B, r"hh|tulu", _BENCHMARKS, (1.5e12, 3e12),
    ),
    Statement(
        "OLMo-1B tuned on Anthropic-HH or TULU: overtraining at budgets beyond 2.5T tokens, in and out of distribution",
        "Section 3.1", _OLMO_1B, r"hh|tulu", _BENCHMARKS,
    ),
    Statement(
        "OLMo-7B (OLMo-2-7B in Table 1): no overtraining observed up to 3T tokens",
        "Section 3.1", _OLMO_7B, r"hh|tulu", _BENCHMARKS,
    ),
)  # fmt: skip


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
                    row = in_metric_direction(compare(data.long(curve, measure), *pair), measure)
                    yield "published", named(row, curve, measure)
                except DataError as error:
                    where = (curve.family, curve.label, measure.name, f"the paper's comparison of {pair}")
                    data.leave_out(*where, why=error)

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield what each variant is and was trained on."""
        table = data.cells[["family", "variant", "modification"]].drop_duplicates(["family", "variant"])
        yield "variants", table.assign(data=list(_training_data(data).values())).reset_index(drop=True)

    def sentences(self, data: ReportData) -> Iterator[str]:
        """Yield the source."""
        if data.with_published:
            yield (
                "Springer et al. (2025), arXiv 2503.19206. Checkpoints within 5% of the tokens that the text names are "
                "compared."
            )

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield one row per statement: what the paper says, where, and what this study measured."""
        if data.with_published:
            rows = [[s.says, s.where, "; ".join(_ours(data, s)) or NOT_MEASURED] for s in STATEMENTS]
            yield Table("", ["The paper", "where", "this study"], rows, prose=True)


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
    near = [abs(row[c] / b - 1) <= _NEAR for c, b in zip(("before", "after"), statement.compare, strict=True)]
    if not all(near):
        return ""
    bars = "" if pd.isna(row["low"]) else f", 95% interval {row['low']:.4g} to {row['high']:.4g}"
    budgets_text = f"from {format_tokens(row['before'])} to {format_tokens(row['after'])}"
    return f"{row['line']}, {row['metric']}: {row['effect']:+.4g} ({100 * row['relative']:+.2g}%) {budgets_text}{bars}"


def _inflection(row: Mapping[Any, Any], data: ReportData, statement: Statement) -> str:
    last = data.cells.loc[data.cells["family"] == row["family"], "tokens"].max()
    if last < statement.up_to * (1 - _NEAR):
        return ""
    return f"{row['line']}, {row['metric']}: {row['sentence']}"


def budgets(statement: Statement, known: list[int]) -> tuple[int, int] | None:
    """Return the two budgets among ``known`` that a statement means, None where one of them is lacking.

    >>> budgets(STATEMENTS[0], [1_500, 2_353_000_000_000, 3_048_000_000_000, 3_094_000_000_000])
    (2353000000000, 3048000000000)
    """
    if statement.compare is None:
        return None
    nearest = [min(known, key=lambda n: abs(n - wanted)) for wanted in statement.compare]
    if any(abs(n / wanted - 1) > _NEAR for n, wanted in zip(nearest, statement.compare, strict=True)):
        return None
    return nearest[0], nearest[1]
