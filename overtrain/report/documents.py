"""Scores per document under integer names: joining millions of them by text would take minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["by_task_and_metric", "with_integer_names"]


def by_task_and_metric(documents: pd.DataFrame, known: pd.Index) -> dict[tuple[str, str], pd.DataFrame]:
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


def with_integer_names(average: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Give the documents of an average integer names that are the same for every curve of the study."""
    codes, names = pd.factorize(average["document"])
    order = {task: place for place, task in enumerate(tasks)}
    numbers = []
    for name in names:
        task, _, document = str(name).rpartition("/")
        numbers.append(int(document) * len(tasks) + order[task])
    if not numbers or (codes < 0).any():
        table = pd.array([*numbers, 0], dtype="Int64")
        table[len(numbers)] = pd.NA  # a missing cell carries no document: code -1
        return average.assign(document=table[codes])
    return average.assign(document=np.array(numbers, dtype=np.int64)[codes])
