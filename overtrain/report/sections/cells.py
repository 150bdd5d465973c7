"""Every cell of the study, with its status, identities and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from overtrain.analysis.verdict import format_tokens
from overtrain.report.axes import fields
from overtrain.report.section import Section
from overtrain.report.tables import DASH, Table, text
from overtrain.results.metrics import TRAINING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData

__all__ = ["Cells"]

_MOST_SCORES = 12


class Cells(Section):
    """One row per cell; a score that is missing is missing."""

    key = "cells"
    title = "Every cell"
    order = 190
    computes = ("cells", "scores")

    def compute(self, data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the cells with the scores of every task and metric, and the results as they were loaded."""
        yield "cells", _with_scores(data)
        yield "scores", data.results

    def tables(self, data: ReportData) -> Iterator[Table]:
        """Yield every cell with its first scores."""
        yield _table(data, data.frame("cells"))


def _with_scores(data: ReportData) -> pd.DataFrame:
    scores = data.scores
    own = [c for c in fields(scores.frame) if scores.cells[c].notna().any()]
    cells = scores.cells.drop(columns=[c for c in fields(scores.frame) if c not in own])
    wide = scores.frame.assign(column=scores.frame["task"] + ": " + scores.frame["metric"]).dropna(
        subset=["column", "value"]
    )
    values = wide.drop_duplicates(["cell_id", "column"]).set_index(["cell_id", "column"])["value"].unstack()  # noqa: PD010
    order = ["family", "run", "tokens", "variant", *[c for c in own if pd.api.types.is_numeric_dtype(cells[c])], "seed"]
    return cells.sort_values(order).merge(values, left_on="cell_id", right_index=True, how="left").drop(columns="cell")


def _table(data: ReportData, cells: pd.DataFrame) -> Table:
    axes = [x.axis.field for x in data.curves if x.axis is not None]
    shown = list(dict.fromkeys(axes + [name for x in data.curves for name, _ in x.settings]))
    wanted = [f"{m.tasks[0]}: {m.metric}" for m in data.measures if not m.average]
    training = [f"{TRAINING}: {m}" for m in ("validation_loss", "distance")]
    shares = [w for m in data.measures if m.scale == "share" and (w := f"{m.tasks[0]}: {m.metric}") in wanted]
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
        folded=len(rows) > 40,
        statuses=tuple(str(s) for s in cells["status"]),
    )


def _about(column: str, value: Any, setting: bool) -> str:
    if column == "tokens":
        return format_tokens(value)
    return _setting(value) if setting or column == "seed" else text(value)


def _setting(value: Any) -> str:
    return DASH if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)
