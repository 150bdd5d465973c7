"""A cell with everything that a process needs to run it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.identity import CellIdentity

if TYPE_CHECKING:
    from pathlib import Path

    from overtrain.plan.cells import Cell
    from overtrain.study.study import Point

__all__ = ["Job", "Plan", "settings_of"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell with everything that one process needs to run it; it pickles.

    Attributes:
        cell: checkpoint, modifications, tasks and settings.
        point: the checkpoint. For a run of a ladder, ``repo`` is the folder of the run.
        text_file: path of the text that ``overtrain_text`` scores.
        cell_id: identity of the result.
        weights_id: identity of the evaluated weights.
        tuned_id: identity of the trained weights in the cache; None if nothing is trained.
        requests: task -> sha256 of its requests.
        tasks_stamp: file stamp of the tasks, see `overtrain.plan.stamps.tasks_stamp`.
        dtype: dtype of the evaluated weights.
        tokenizer: hash of the tokenizer.
        reuse_base: keep the base weights in memory for a later cell of the same checkpoint.
        root: the study's folder.
    """

    cell: Cell
    point: Point
    text_file: str | None
    cell_id: str
    weights_id: str
    tuned_id: str | None
    requests: dict[str, str]
    tasks_stamp: str
    dtype: str
    tokenizer: str
    reuse_base: bool
    root: Path

    @property
    def repo(self) -> str:
        """The repository or the folder to load."""
        return self.point.repo

    @property
    def settings(self) -> str:
        """The settings that tasks are built with, as JSON. Jobs with equal tasks and settings share their requests."""
        return settings_of(self.cell, self.text_file)

    @property
    def identity(self) -> dict[str, Any]:
        """The JSON data whose digest is ``cell_id``."""
        return CellIdentity(
            weights=self.weights_id, tasks=self.requests, dtype=self.dtype, tokenizer=self.tokenizer
        ).describe()


@dataclass(frozen=True)
class Plan:
    """The jobs of a study.

    Attributes:
        jobs: in the order of the cells.
        problems: key of a cell without a job -> message that says why it has none.
    """

    jobs: list[Job]
    problems: dict[str, str]


def settings_of(cell: Cell, text: str | None) -> str:
    """Return the settings that decide a cell's requests, as JSON. The names of the tasks are not included."""
    evaluation = cell.evaluation
    settings: dict[str, Any] = {
        "limit": evaluation.limit,
        "num_fewshot": evaluation.num_fewshot,
        "dtype": evaluation.dtype,
        "metadata": evaluation.metadata,
        "include_path": evaluation.include_path,
        "text_file": text,
    }
    if evaluation.generate_backend != "hf":
        settings["generate_backend"] = evaluation.generate_backend
    return json.dumps(settings, sort_keys=True)
