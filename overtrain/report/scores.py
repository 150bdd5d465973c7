"""Bring the scores of a curve into the long form of ``overtrain.analysis``, with its missing cells as missing rows.

Cells and documents are renamed to integers on the way: joining millions of them by text would take minutes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from overtrain.analysis.long import group_average, long_form, oriented
from overtrain.report.view import TRAINING, fields
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.report.endpoints import Endpoint
    from overtrain.report.view import Line

__all__ = ["Scores"]


class Scores:
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
        self.left_out = _left_out(frame.assign(cell=codes), self.cells)
        self._documents = _split(documents, known)
        self.scored = sorted(self._documents)
        self._kept: dict[tuple[Line, Endpoint], pd.DataFrame] = {}

    def of(self, line: Line) -> pd.DataFrame:
        """Return the cells of ``line``; those of a tuned line are the cells of all its learning rates."""
        cells = self.cells
        keep = (cells["family"] == line.family) & (cells["variant"] == line.variant)
        if line.axis is not None and not line.tuned:
            keep &= cells[line.axis] == line.strength
        for name, value in line.settings:
            keep &= cells[name].map(str) == value
        return cells[keep]

    def training(self, line: Line, metric: str, task: str = TRAINING) -> pd.DataFrame:
        """Return one row per cell of ``line``: ``budget``, ``run``, ``seed``, ``learning_rate``, ``value`` (NaN if missing)."""
        cells = self._measured(line, task)
        part = self._rows.get((task, metric))
        values = {} if part is None else part.drop_duplicates("cell").set_index("cell")["value"].to_dict()
        rates = cells["learning_rate"] if "learning_rate" in cells.columns else np.nan
        return pd.DataFrame(
            {
                "budget": cells["tokens"].to_numpy(),
                "run": cells["run"].to_numpy(),
                "seed": cells["seed"].to_numpy(),
                "learning_rate": rates if isinstance(rates, float) else rates.to_numpy(float),
                "value": [values.get(cell, np.nan) for cell in cells["cell"]],
            }
        )

    def members(self, line: Line) -> list[Line]:
        """Return the lines at fixed learning rates that a tuned line is chosen from."""
        rates = sorted(set(self.of(line)["learning_rate"].dropna()))
        return [replace(line, strength=float(rate)) for rate in rates]

    def long(self, line: Line, endpoint: Endpoint) -> pd.DataFrame:
        """Return the long form of ``line`` on ``endpoint``, oriented: lower is better; kept until `forget`, not to change."""
        if (line, endpoint) not in self._kept:
            self._kept[line, endpoint] = self._made(line, endpoint)
        return self._kept[line, endpoint]

    def forget(self) -> None:
        """Drop the long forms that were kept; call it between endpoints."""
        self._kept.clear()

    def _made(self, line: Line, endpoint: Endpoint) -> pd.DataFrame:
        keep = ("learning_rate",) if line.axis == "learning_rate" else ()
        if not endpoint.average:
            return oriented(self._long(line, endpoint.tasks[0], endpoint.metric, keep), endpoint.higher_is_better)
        if line.tuned:
            return pd.concat([self.long(member, endpoint) for member in self.members(line)], ignore_index=True)
        parts = [self._long(line, task, endpoint.metric, ()).assign(task=task) for task in endpoint.tasks]
        merged = pd.concat(parts, ignore_index=True)
        merged["task"] = merged["task"].astype("category")  # twice as fast to group by
        whole = group_average(merged)
        if merged["document"].isna().all():  # every row of a cell is then its mean
            whole = whole.drop_duplicates(["budget", "run", "seed"]).assign(document=None, weight=1.0)
        else:
            whole = _coded(whole, endpoint.tasks)
        whole = whole.assign(learning_rate=line.strength) if keep else whole
        return oriented(whole, endpoint.higher_is_better)

    def tasks(self, line: Line, endpoint: Endpoint) -> pd.DataFrame:
        """Return the tasks of ``endpoint`` below each other in the long form, with ``task``; no two share a document."""
        parts = []
        for place, task in enumerate(endpoint.tasks):
            part = self._long(line, task, endpoint.metric, ())
            parts.append(part.assign(task=task, document=part["document"] * len(endpoint.tasks) + place))
        return pd.concat(parts, ignore_index=True)

    def _measured(self, line: Line, task: str) -> pd.DataFrame:
        """Return the cells of ``line`` that count on ``task``: all, but for win rates those of a reference's seed."""
        cells = self.of(line)
        return cells[~cells["cell"].isin(self.left_out)] if task == TASK else cells

    def _long(self, line: Line, task: str, metric: str, keep: Sequence[str]) -> pd.DataFrame:
        cells = self._measured(line, task)
        part = self._rows.get((task, metric))
        values = {} if part is None else part.drop_duplicates("cell").set_index("cell")["value"].to_dict()
        runs = cells[["cell", "tokens", "run", "seed", *keep]].assign(
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


def _left_out(frame: pd.DataFrame, cells: pd.DataFrame) -> frozenset[int]:
    """Return the cells without which budgets, rates and seeds of a reference's variant are balanced again."""
    if "reference" not in frame.columns:
        return frozenset()
    names = ["family", "variant", "run", *(["data"] if "data" in cells.columns else [])]
    found: set[int] = set()
    for own in cells[cells["cell"].isin(frame.loc[frame["reference"], "cell"])].to_dict("records"):
        group = cells[(cells[names].map(str) == [str(own[name]) for name in names]).all(axis=1)]
        of_seed = group[group["seed"].isna()] if pd.isna(own["seed"]) else group[group["seed"] == own["seed"]]
        found |= {own["cell"]} if len(of_seed) == len(group) else set(of_seed["cell"])
    return frozenset(int(cell) for cell in found)


def _split(documents: pd.DataFrame, known: pd.Index) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the documents of each task and metric, with integer cells; rows of cells that are not ``known`` go."""
    if documents.empty:
        return {}
    names = documents["cell_id"]
    if isinstance(names.dtype, pd.CategoricalDtype):
        codes = known.get_indexer(names.cat.categories.astype(object))[names.cat.codes.to_numpy()]
    else:
        codes = known.get_indexer(pd.Index(names.astype(object)))
    columns = {name: documents[name].to_numpy() for name in ("document", "value", "weight")}
    split = {}
    groups: dict[Any, Any] = documents.groupby(["task", "metric"], observed=True, sort=True).indices
    for (task, metric), places in groups.items():
        mine = places[codes[places] >= 0]
        part = {name: values[mine] for name, values in columns.items()}
        split[str(task), str(metric)] = pd.DataFrame({"cell_id": codes[mine].astype(np.int32), **part})
    return split


def _coded(merged: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Give the documents of an average integer names that are the same for every line of the study."""
    codes, names = pd.factorize(merged["document"])
    order = {task: place for place, task in enumerate(tasks)}
    numbers = []
    for name in names:
        task, _, document = str(name).rpartition("/")
        numbers.append(int(document) * len(tasks) + order[task])
    if not numbers or (codes < 0).any():
        table = pd.array([*numbers, 0], dtype="Int64")
        table[len(numbers)] = pd.NA  # a missing cell carries no document: code -1
        return merged.assign(document=table[codes])
    return merged.assign(document=np.array(numbers, dtype=np.int64)[codes])
