"""AlpacaEval: the win rates, and what has to be said with them: judge, reference, selection, what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from overtrain.report.axes import fields
from overtrain.report.measures import BIASED
from overtrain.report.references import references
from overtrain.report.section import Section
from overtrain.report.tables import Table, table_of
from overtrain_tasks.alpaca_eval import SATURATED, TASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from overtrain.report.data import ReportData

__all__ = ["AlpacaEval"]

_METRICS = ("win_rate", "position_bias", "length", "length_difference", "missing")
_CELL = ("family", "variant", "run", "tokens")
_JUDGED = {
    "seed": "seed",
    "status": "status",
    "reference": "reference",
    "win_rate": "win rate %",
    "win_rate_stderr": "se",
    "position_bias": "position bias (points)",
    "length": "mean length (characters)",
    "length_difference": "against the reference",
    "missing": "verdicts missing",
    "saturated": "outside 20-80",
}


class AlpacaEval(Section):
    """Win rates, cell by cell. The curves of the win rate are in the sections of the other measures."""

    key = "alpaca_eval"
    title = "AlpacaEval"
    order = 30
    computes = ("win_rates",)

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield one row per cell that answers."""
        table = _win_rates(data.results, {axis.field for axis in data.selected_axes})
        if len(table):
            yield "win_rates", table

    def missing(self, data: ReportData) -> Iterator[str]:
        """Yield what has no win rate, or is left out of the curves of win rates."""
        yield from _left_out(data.results, data.frame("win_rates"), data.study.tasks)

    def sentences(self, data: ReportData) -> Iterator[str]:
        """Yield what the page says above the table."""
        table = data.frame("win_rates")
        if len(table):
            yield from _sentences(data, table)

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield the win rate of every cell."""
        table = data.frame("win_rates")
        settings = [c for c in fields(data.results) if c in table.columns]
        yield table_of(
            "AlpacaEval, cell by cell",
            table,
            {c: c.replace("_", " ") for c in (*_CELL, *settings)} | _JUDGED,
            "The position bias is how much more often than half the answer that is shown first wins. Verdicts that are missing "
            "are left out of the win rate; too many are an error, not a row.",
            folded=True,
        )


def _win_rates(frame: pd.DataFrame, selected: set[str]) -> pd.DataFrame:
    """Return one row per cell that answers, the reference included: who it is, its ``status`` and what was judged.

    Columns: ``family``, ``variant``, ``run``, ``tokens``, those fields of modifications that are numbers and vary or are
    in ``selected``, ``seed``,
    ``status``, ``reference`` (bool), ``win_rate`` (percent) with ``win_rate_stderr`` (over instructions), ``position_bias``
    (percentage points: how much more often than half the answer shown first wins), ``length``, ``length_difference``
    (characters), ``missing`` (verdicts), ``saturated`` (bool: outside 20 to 80%), ``cell_id``. A study without win rates has
    no rows.
    """
    rows = frame[(frame["task"] == TASK) & frame["metric"].isin(_METRICS)]
    if not (rows["metric"] == "win_rate").any():
        return pd.DataFrame()
    rows = rows.drop_duplicates(["cell_id", "metric"])
    wide = rows.set_index(["cell_id", "metric"])["value"].unstack().reindex(columns=list(_METRICS))  # noqa: PD010
    errors = rows[rows["metric"] == "win_rate"].set_index("cell_id")["stderr"].rename("win_rate_stderr")
    numeric = [c for c in fields(frame) if pd.api.types.is_numeric_dtype(rows[c])]
    own = [c for c in numeric if c in selected or len(rows[c].unique()) > 1]
    about = [*_CELL, *own, "seed", "status"]
    first = rows[["cell_id", *about]].drop_duplicates("cell_id")
    marks = rows.assign(reference=rows["reference"] if "reference" in rows.columns else False)
    first = first.assign(reference=marks.drop_duplicates("cell_id")["reference"].to_numpy(bool))
    table = first.merge(wide, left_on="cell_id", right_index=True).merge(errors, left_on="cell_id", right_index=True)
    low, high = SATURATED
    table = table.assign(saturated=(table["win_rate"] < low) | (table["win_rate"] > high))
    order = [*about, "reference", "win_rate", "win_rate_stderr", *_METRICS[1:], "saturated", "cell_id"]
    return table[order].sort_values([c for c in about if c != "status"]).reset_index(drop=True)


def _left_out(frame: pd.DataFrame, table: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """Return a sentence for everything that has no win rate, or is left out of their curves."""
    if table.empty:
        asked = TASK in tasks
        return ["Answers for AlpacaEval were generated but not judged; run `overtrain judge`."] if asked else []
    found = []
    unjudged = table[table["win_rate"].isna()]
    if len(unjudged):
        found.append(
            f"{_count(len(unjudged))} of AlpacaEval without a win rate: run what is missing, then `overtrain judge`."
        )
    alone = set(frame.loc[frame["reference_only"], "cell_id"]) if "reference_only" in frame.columns else set()
    for row in table[table["reference"] & ~table["cell_id"].isin(alone)].to_dict("records"):
        mine = table[
            (table["family"] == row["family"]) & (table["variant"] == row["variant"]) & (table["run"] == row["run"])
        ]
        seed = "no seed" if pd.isna(row["seed"]) else f"seed {row['seed']}"
        what = f"{seed} is left out of its win rates, at every budget and rate" if len(mine["seed"].unique()) > 1 else (
            "the reference alone is left out of its win rates, so one rate lacks a budget"
        )  # fmt: skip
        found.append(
            f"{row['family']}, {row['variant']}: {what}, because the reference, whose win rate is 50% by definition, has it; "
            "a reference with a seed of its own (reference: {seed: N}) leaves nothing out."
        )
    return found


def _sentences(data: ReportData, table: pd.DataFrame) -> list[str]:
    judge = data.judged.judge if data.judged else None
    orders = {
        "both": "both orders of every pair, averaged",
        "one": "one order of each pair, AlpacaEval's own seeded one",
    }
    parts = [f"judged by {judge.model}"] if judge else []
    parts += [orders[judge.orders]] if judge and judge.orders in orders else []
    parts += [f"{judge.samples} sampled answers of the judge per question"] if judge and judge.samples else []
    how = f" ({'; '.join(parts)})" if parts else ""
    first = (
        f"Win rate against a reference of the same family, tuned on the same data{how}; ties count half, and the reference has "
        "50% against itself by definition. Standard errors are over instructions; a longer answer may win for its length."
    )
    said = [first]
    beyond = table[table["saturated"]]
    if len(beyond):
        low, high = SATURATED
        worst = f"{beyond['win_rate'].min():.3g}% to {beyond['win_rate'].max():.3g}%"
        said.append(
            f"Warning: win rates saturate. {_count(len(beyond))} outside {low:g} to {high:g}% ({worst}), where differences are "
            "smaller than between models as strong as the reference; choose a reference nearer to them."
        )
    said += [f"Reference of {name}: {what}." for name, what in references(data).items()]
    if data.study.select.how == "cross_fit":
        said.append(
            "Learning rates are selected by win rate: for everything else on all instructions, for the win rate itself on one "
            "half of the instructions and reported on the other, and the reverse (cross-fitted)."
        )
    elif data.study.select.how == "reported":
        said.append(
            f"Learning rates are selected by the win rate on all instructions: win rates at tuned rates are {BIASED}."
        )
    return said


def _count(cells: int) -> str:
    return f"{cells} cell{'s' if cells > 1 else ''}"
