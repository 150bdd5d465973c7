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
        cell: what is asked for.
        point: the checkpoint, with ``repo`` filled in for a ladder's run.
        text_file: of ``overtrain_text``, a path.
        cell_id: names the result.
        weights_id: of the evaluated weights.
        tuned_id: of the weights that training leaves in the cache, None where nothing is trained.
        requests: task -> sha256 of its requests.
        tasks_stamp: changes with what the requests are built from, see `overtrain.plan.stamps`.
        dtype: of the evaluated weights.
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
        """What to load: a repository or a folder."""
        return self.point.repo

    @property
    def settings(self) -> str:
        """What tasks are built with, as JSON: two jobs with the same can share their requests."""
        return settings_of(self.cell, self.text_file)

    @property
    def identity(self) -> dict[str, Any]:
        """What ``cell_id`` is the digest of."""
        return CellIdentity(
            weights=self.weights_id, tasks=self.requests, dtype=self.dtype, tokenizer=self.tokenizer
        ).describe()


@dataclass(frozen=True)
class Plan:
    """Jobs in the cells' order, and why other cells have none: cell key -> message."""

    jobs: list[Job]
    problems: dict[str, str]


def settings_of(cell: Cell, text: str | None) -> str:
    """Return what decides a cell's requests beyond its tasks, as JSON."""
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
