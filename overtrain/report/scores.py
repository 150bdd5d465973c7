"""Bring the scores of a curve into the long form of ``overtrain.analysis``, with its missing cells as missing rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from overtrain.analysis.long import group_average, long_form, oriented
from overtrain.report.axes import fields, trained_on
from overtrain.report.documents import by_task_and_metric, with_integer_names
from overtrain.results.metrics import TRAINING
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from overtrain.report.curves import Curve
    from overtrain.report.measures import Measure

__all__ = ["SELECTED", "StudyScores"]

SELECTED = "rate"
"""Column under which `overtrain.analysis` and the tables keep the value that is selected at every checkpoint."""


class StudyScores:
    """The scores of one study.

    Attributes:
        frame: the tidy frame.
        cells: one row per cell of a variant: what it is, its ``status`` and its integer ``cell``.
        scored: task and metric of every set of scores per document.
        left_out: cells whose win rates are on no curve: those with the seed of a reference, in its variant and run, or the
            reference alone where there is no other seed.
    """

    def __init__(self, frame: pd.DataFrame, documents: pd.DataFrame) -> None:
        self.frame = frame
        own = fields(frame)
        about = [
            "cell_id",
            "weights_id",
            "status",
            "checkpoint",
            "family",
            "run",
            "tokens",
            "variant",
            "modification",
            "seed",
        ]
        key = [c for c in [*about, *own] if c in frame.columns]
        names = frame["cell_id"].astype(object)
        codes, known = pd.factorize(names)
        # A cell that never ran has no documents; one without an identity yet still is a cell of its own.
        cells = (
            frame[key]
            .assign(cell=codes)
            .drop_duplicates(subset=["cell", "variant", "family", "run", "tokens", "seed", *own])
        )
        self.cells = cells.reset_index(drop=True)
        self._rows = {
            (str(t), str(m)): part[["cell_id", "variant", "value", "stderr"]].assign(cell=codes[part.index.to_numpy()])
            for (t, m), part in frame.reset_index(drop=True).groupby(["task", "metric"], sort=True)
        }
        self.left_out = _left_out(frame.assign(cell=codes), self.cells, own)
        self._documents = by_task_and_metric(documents, known)
        self.scored = sorted(self._documents)
        self._kept: dict[tuple[Curve, Measure], pd.DataFrame] = {}

    def of(self, curve: Curve) -> pd.DataFrame:
        """Return the cells of ``curve``; those of a tuned curve are the cells of all values of its axis."""
        cells = self.cells
        keep = (cells["family"] == curve.family) & (cells["variant"] == curve.variant)
        if curve.axis is not None and not curve.tuned:
            keep &= cells[curve.axis.field] == curve.strength
        for name, value in curve.settings:
            keep &= cells[name].map(str) == value
        return cells[keep]

    def measured(self, curve: Curve, measure: Measure) -> bool:
        """Return whether ``curve`` has ``measure`` at all: only models that answer have a win rate, finished or not."""
        if measure.covers != "all" and curve.tuned != (measure.covers == "tuned"):
            return False
        if measure.outside:
            return True
        if measure.selects:
            return curve.selectable
        part = self._rows.get((measure.tasks[0], measure.metric))
        return part is not None and bool(self.of(curve)["cell"].isin(part["cell"]).any())

    def training(self, curve: Curve, metric: str, task: str = TRAINING) -> pd.DataFrame:
        """Return one row per cell of ``curve``: ``budget``, ``run``, ``seed``, `SELECTED`, ``value`` (NaN if missing)."""
        cells = self._counted(curve, task)
        part = self._rows.get((task, metric))
        values = {} if part is None else part.drop_duplicates("cell").set_index("cell")["value"].to_dict()
        values |= dict.fromkeys(self._diverged(cells), np.inf)
        selected = curve.axis is not None and curve.axis.selected
        return pd.DataFrame(
            {
                "budget": cells["tokens"].to_numpy(),
                "run": cells["run"].to_numpy(),
                "seed": cells["seed"].to_numpy(),
                SELECTED: cells[curve.axis.field].to_numpy(float) if selected and curve.axis else np.nan,
                "value": [values.get(cell, np.nan) for cell in cells["cell"]],
            }
        )

    def members(self, curve: Curve) -> list[Curve]:
        """Return the curves at fixed values of the axis that a tuned curve is chosen from."""
        assert curve.axis is not None
        values = sorted(set(self.of(curve)[curve.axis.field].dropna()))
        return [replace(curve, strength=float(value)) for value in values]

    def long(self, curve: Curve, measure: Measure) -> pd.DataFrame:
        """Return the long form of ``curve`` on ``measure``, oriented: lower is better; kept until `forget`, not to change."""
        if (curve, measure) not in self._kept:
            self._kept[curve, measure] = self._made(curve, measure)
        return self._kept[curve, measure]

    def forget(self) -> None:
        """Drop the long forms that were kept; call it between measures."""
        self._kept.clear()

    def _made(self, curve: Curve, measure: Measure) -> pd.DataFrame:
        keep = curve.axis.field if curve.axis is not None and curve.axis.selected else None
        if not measure.average:
            return oriented(self._long(curve, measure.tasks[0], measure.metric, keep), measure.higher_is_better)
        if curve.tuned:
            return pd.concat([self.long(member, measure) for member in self.members(curve)], ignore_index=True)
        parts = [self._long(curve, task, measure.metric).assign(task=task) for task in measure.tasks]
        merged = pd.concat(parts, ignore_index=True)
        merged["task"] = merged["task"].astype("category")  # twice as fast to group by
        whole = group_average(merged)
        if merged["document"].isna().all():  # every row of a cell is then its mean
            whole = whole.drop_duplicates(["budget", "run", "seed"]).assign(document=None, weight=1.0)
        else:
            whole = with_integer_names(whole, measure.tasks)
        whole = whole.assign(**{SELECTED: curve.strength}) if keep else whole
        return oriented(whole, measure.higher_is_better)

    def tasks(self, curve: Curve, measure: Measure) -> pd.DataFrame:
        """Return the tasks of ``measure`` below each other in the long form, with ``task``; no two share a document."""
        parts = []
        for place, task in enumerate(measure.tasks):
            part = self._long(curve, task, measure.metric)
            parts.append(part.assign(task=task, document=part["document"] * len(measure.tasks) + place))
        return pd.concat(parts, ignore_index=True)

    def _counted(self, curve: Curve, task: str) -> pd.DataFrame:
        """Return the cells of ``curve`` that count on ``task``: all, but for win rates those of a reference's seed."""
        cells = self.of(curve)
        return cells[~cells["cell"].isin(self.left_out)] if task == TASK else cells

    @staticmethod
    def _diverged(cells: pd.DataFrame) -> list[int]:
        """Return the cells whose training diverged: their scores are infinite, and rank worst."""
        return cells.loc[cells["status"] == "diverged", "cell"].tolist() if "status" in cells.columns else []

    def _long(self, curve: Curve, task: str, metric: str, selected: str | None = None) -> pd.DataFrame:
        """Return the long form of one task; with the field ``selected`` as a column of its own, called `SELECTED`."""
        cells = self._counted(curve, task)
        part = self._rows.get((task, metric))
        values = {} if part is None else part.drop_duplicates("cell").set_index("cell")["value"].to_dict()
        values |= dict.fromkeys(self._diverged(cells), np.inf)
        keep = (SELECTED,) if selected else ()
        about = cells[["cell", "tokens", "run", "seed"]]
        about = about.assign(**{SELECTED: cells[selected]}) if selected else about
        runs = about.assign(
            cell_id=cells["cell"], task=task, metric=metric, value=[values.get(c, np.nan) for c in cells["cell"]]
        )
        documents = self._documents.get((task, metric))
        if documents is None:
            return long_form(runs, task=task, metric=metric, keep=keep)
        mine = documents[documents["cell_id"].isin(runs.loc[runs["value"].notna(), "cell_id"])]
        joined = long_form(runs, mine.assign(task=task, metric=metric), task=task, metric=metric, keep=keep)
        # A missing cell has no document, which makes the column one of floats.
        return (
            joined
            if joined["document"].dtype == np.int64
            else joined.assign(document=joined["document"].astype("Int64"))
        )


def _left_out(frame: pd.DataFrame, cells: pd.DataFrame, own: list[str]) -> frozenset[int]:
    """Return the cells without which budgets, rates and seeds of a reference's variant are balanced again."""
    if "reference" not in frame.columns:
        return frozenset()
    names = ["family", "variant", "run"]
    read = cells.assign(trained_on=["\n".join(trained_on(row, own)) for row in cells.to_dict("records")])
    found: set[int] = set()
    for reference in read[read["cell"].isin(frame.loc[frame["reference"], "cell"])].to_dict("records"):
        alike = (read[names].map(str) == [str(reference[name]) for name in names]).all(axis=1)
        group = read[alike & (read["trained_on"] == reference["trained_on"])]
        seed = reference["seed"]
        of_seed = group[group["seed"].isna()] if pd.isna(seed) else group[group["seed"] == seed]
        found |= {reference["cell"]} if len(of_seed) == len(group) else set(of_seed["cell"])
    return frozenset(int(cell) for cell in found)
