"""Frames as tables of text for the page: few columns, few digits; the files beside it hold everything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from overtrain.analysis.verdict import format_tokens
from overtrain.report.endpoints import main_endpoints
from overtrain.report.sentences import minimum
from overtrain.report.view import TRAINING

if TYPE_CHECKING:
    from overtrain.report.assemble import Assembled

__all__ = ["Table", "cell_table", "tables", "text"]

_MOST_SCORES = 12
_DASH = "-"


@dataclass(frozen=True)
class Table:
    """One table of the page.

    Attributes:
        title: above it.
        head: names of the columns.
        rows: cells as text.
        note: below it.
        section: where on the page.
        folded: whether it is shown on demand.
        statuses: class of each row, for those that differ from done.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str
    section: str
    folded: bool = False
    statuses: tuple[str, ...] = ()


def text(value: Any) -> str:
    """Write a value for a table; missing is said, never left blank.

    >>> text(0.123456), text(True), text(None), text(12)
    ('0.1235', 'yes', 'missing', '12')
    """
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "missing"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class _Spec:
    """How a frame becomes a table: columns as ``column`` or ``column:head``, an underscore of a head being a blank."""

    title: str
    frame: str
    section: str
    columns: str
    note: str = ""
    folded: bool = False


_VERDICTS = _Spec(
    "Verdicts",
    "verdicts",
    "verdicts",
    "family line:curve endpoint:on metric verdict inflection:lowest_at minimum:95% first_rise:first_rise_after "
    "rise:rise_T fall:fall_T critical p_rise:p_(rise) p_rise_holm:p_(Holm) n_seeds:seeds n_documents:documents "
    "n_runs:runs missing",
    "T is the largest difference of an earlier and a later budget in units of its standard error; the critical value is the "
    "95% quantile of T when all budgets are equal, simulated for this design. Each verdict is a test of its own at 5%; the "
    "last p-value is adjusted for all curves together.",
)
_SPECS = (
    _Spec(
        "Does sensitivity grow with tokens?",
        "trends",
        "trends",
        "family line:curve endpoint:on metric quantity:in increase:last_minus_first se statistic:T_up critical "
        "grows shrinks missing",
        "A max-T trend test of the Williams type on the order of budgets, each direction at 5%.",
    ),
    _Spec(
        "Tuned learning rates",
        "optima",
        "optima",
        "family variant run budget:tokens learning_rate:best_rate near_low:within_1_se,_from near_high:to "
        "at_edge:at_the_grid's_edge optimum optimum_low:95%_from optimum_high:95%_to n_seeds:seeds n_missing:cells_missing",
        "The optimum is the minimum of a parabola in the logarithm of the rate; its interval is missing where the data do not "
        "bound it.",
    ),
    _Spec(
        "AlpacaEval, cell by cell",
        "win_rates",
        "alpaca_eval",
        "family variant run tokens learning_rate:rate gamma seed status reference win_rate:win_rate_% win_rate_stderr:se "
        "position_bias:position_bias_(points) length:mean_length_(characters) length_difference:against_the_reference "
        "missing:verdicts_missing saturated:outside_20-80",
        "The position bias is how much more often than half the answer that is shown first wins. Verdicts that are missing are "
        "left out of the win rate; too many are an error, not a row.",
        folded=True,
    ),
    _Spec(
        "Two checkpoints compared",
        "comparisons",
        "comparisons",
        "primary family line:curve endpoint:on metric before:from after:to effect:change low:95%_from high:95%_to worse "
        "p_value:p p_holm:p_(Holm) missing",
        "Paired by document, in the metric's own direction. Only the primary comparison was named before the study ran; the "
        "p-values of the others are adjusted by Holm.",
    ),
    _Spec(
        "Right to wrong, wrong to right",
        "transitions",
        "transitions",
        "family line:curve endpoint:benchmark budget:tokens run seed n_documents:documents right_to_wrong:right_to_wrong "
        "wrong_to_right:wrong_to_right net p_value:p_(McNemar)",
        "Base against modified model, one row per seed; the p-values are not adjusted.",
        folded=True,
    ),
    _Spec(
        "Variance shares",
        "shares",
        "shares",
        "family metric task:benchmark n_documents:documents se:se_of_its_mean task_weight:weight share:share_of_the_variance",
        folded=True,
    ),
    _Spec(
        "Jitter of neighbouring checkpoints",
        "jitter",
        "checks",
        "family line:curve endpoint:on first last n_budgets:checkpoints sd sd_expected:sd_expected sd_jitter:sd_of_jitter",
        "What neighbours of one run differ by beyond seeds and documents: a lower bound of what another run would change.",
    ),
    _Spec(
        "Two halves of the seeds",
        "halves",
        "checks",
        "family line:curve endpoint:on statistic critical passed n_first:seeds n_second:against",
        "An A/A check: the halves must agree. One in twenty fails by chance.",
        folded=True,
    ),
    _Spec(
        "A modification of strength 0",
        "sham",
        "checks",
        "family line:curve endpoint:on budget:tokens mean:change low:95%_from high:95%_to passed missing",
        "An A/A check: the scores must be those of the base model. One study in twenty fails by chance.",
        folded=True,
    ),
    _Spec(
        "Checkpoints",
        "confounds",
        "confounds",
        "family run checkpoint tokens pretraining_learning_rate:pre-training_learning_rate "
        "pretraining_epochs:passes_over_the_data",
        folded=True,
    ),
)
_TOKENS = frozenset({"budget", "tokens", "before", "after", "first", "last", "inflection", "first_rise"})
_BLANK = frozenset({"missing", "p_holm"})
"""Columns where nothing is missing, or nothing adjusted, if they are empty."""


def tables(made: Assembled) -> list[Table]:
    """Return the tables of the page's sections, those without rows left out."""
    main = {(e.name, e.metric) for e in main_endpoints(made.endpoints)}
    single = {(e.name, e.metric) for e in made.endpoints} - main
    verdicts = made.frame("verdicts")
    found = []
    if len(verdicts):
        verdicts = verdicts.assign(minimum=[minimum(row) for row in verdicts.to_dict("records")])
        apart = [pair in single for pair in zip(verdicts["endpoint"], verdicts["metric"], strict=True)]
        found.append(_table(_VERDICTS, verdicts[[not x for x in apart]]))
        found.append(_table(replace(_VERDICTS, title="Verdicts by benchmark", folded=True), verdicts[apart]))
    found += [_table(spec, made.frame(spec.frame)) for spec in _SPECS]
    return [table for table in found if table.rows]


def _table(spec: _Spec, frame: pd.DataFrame) -> Table:
    pairs = [(c, h or c) for c, _, h in (part.partition(":") for part in spec.columns.split())]
    pairs = [(column, head.replace("_", " ")) for column, head in pairs if column in frame.columns]
    rows = [[_value(column, row[column]) for column, _ in pairs] for row in frame.to_dict("records")]
    return Table(spec.title, [head for _, head in pairs], rows, spec.note, spec.section, spec.folded)


def _value(column: str, value: Any) -> str:
    if column in _BLANK and (pd.isna(value) or value == ""):
        return _DASH
    if column in _TOKENS and not pd.isna(value):
        return format_tokens(value)
    return value.replace("_", " ") if column == "quantity" else text(value)


def cell_table(made: Assembled) -> Table:
    """Return every cell with its status, identities and first scores; all scores are in ``tables/cells.csv``."""
    cells = made.cells
    shown = [
        x for x in dict.fromkeys([x.axis for x in made.lines] + [k for x in made.lines for k, _ in x.settings]) if x
    ]
    wanted = [f"{e.tasks[0]}: {e.metric}" for e in made.endpoints if not e.average]
    training = [f"{TRAINING}: {m}" for m in ("validation_loss", "distance")]
    shares = [w for e in made.endpoints if e.scale == "share" and (w := f"{e.tasks[0]}: {e.metric}") in wanted]
    order = [c for c in dict.fromkeys([wanted[0] if wanted else "", *training, *shares, *wanted]) if c in cells.columns]
    scores = order[:_MOST_SCORES]
    about = ["status", "checkpoint", "tokens", "variant", *shown, "seed"]
    names = {**{c: c.replace("_", " ") for c in about}, **{c: c.removeprefix(f"{TRAINING}: ") for c in scores}}
    rows = []
    for row in cells.to_dict("records"):
        own = [_about(c, row[c], c in shown) for c in about]
        ids = ["missing" if pd.isna(row[c]) else str(row[c])[:12] for c in ("weights_id", "cell_id")]
        rows.append([*own, *(text(row[c]) for c in scores), *ids])
    left = len(order) - len(scores)
    more = f" {left} further scores per cell are in the file." if left else ""
    return Table(
        title="Every cell",
        head=[*(names[c] for c in [*about, *scores]), "weights_id", "cell_id"],
        rows=rows,
        note=f"A setting that does not apply is a dash; a score that is missing is called missing.{more}",
        section="cells",
        folded=len(rows) > 40,
        statuses=tuple(str(s) for s in cells["status"]),
    )


def _about(column: str, value: Any, setting: bool) -> str:
    if column == "tokens":
        return format_tokens(value)
    return _setting(value) if setting or column == "seed" else text(value)


def _setting(value: Any) -> str:
    return _DASH if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)
