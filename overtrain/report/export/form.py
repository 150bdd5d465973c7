"""The base class of export formats, and the finished cells that they write.

A format is one file in ``overtrain/report/export/`` with one subclass of `ExportForm`, and the file's name is the format's
name. No other file has to change: ``overtrain export --form`` and the contract test find the new file.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from model_wrappers.files import write_whole
from overtrain.report.files import slug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from overtrain.results.record import CellRecord, MetricRow

__all__ = ["ExportForm", "FinishedCell", "OneFilePerCell", "finished_cells"]


class ExportForm(ABC):
    """A format in which another tool reads a study's results.

    A cell always gets the same path, and equal results give equal files.

    Class attributes:
        needs: rest of the error message, after the folder's name, if there is nothing to write.
    """

    needs: ClassVar[str] = "has no finished cell; run `overtrain sweep` first, then export"

    @abstractmethod
    def write(self, run_folder: Path, out: Path, *, organization: str) -> int:
        """Write the files; return the number of cells in them.

        Args:
            run_folder: ``runs/<study>``.
            out: folder to write to.
            organization: name of the organization that ran the study.

        Raises:
            StoreError: there is no study in the folder, or a file is damaged.
        """


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell of a study, with everything that export formats need.

    Attributes:
        study: name of the study.
        record: labels and identities of the cell.
        results: lm-eval's results JSON.
        rows: metrics of the cell, one row per task and metric.
        finished: time of the result, in seconds since the epoch.
    """

    study: str
    record: CellRecord
    results: dict[str, Any]
    rows: tuple[MetricRow, ...]
    finished: float

    @property
    def about(self) -> dict[str, Any]:
        """The data that our models add to lm-eval's configuration."""
        return dict(self.results.get("config", {}).get("overtrain", {}))

    @property
    def developer(self) -> str:
        """Organisation of the repository; ``local`` for a folder."""
        return slug(self._repo[0])

    @property
    def model(self) -> str:
        """Name of what was evaluated: a revision or a modification of a model never carries the model's own name."""
        parts = [self._repo[1]]
        revision = self.about.get("checkpoint", {}).get("revision")
        if revision not in {None, "", "main"}:
            parts.append(str(revision))
        if self.record.modification != "base":
            parts += [str(self.record.variant), str(self.record.weights_id or self.record.cell_id)[:8]]
        return slug("-".join(parts))

    @property
    def _repo(self) -> tuple[str, str]:
        repo = str(self.about.get("checkpoint", {}).get("repo") or self.record.checkpoint)
        if self.hub:
            owner, _, name = repo.partition("/")
            return owner, name
        return "local", f"{self.record.family}-{self.record.run}-{self.record.tokens}"

    @property
    def hub(self) -> bool:
        """Whether the checkpoint is a repository of the hub, not a folder."""
        repo = str(self.about.get("checkpoint", {}).get("repo") or "")
        return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", repo)) and "@" in str(self.record.checkpoint)


class OneFilePerCell(ExportForm):
    """A form with one JSON file per finished cell."""

    @abstractmethod
    def content(self, cell: FinishedCell, organization: str) -> tuple[str, dict[str, Any]]:
        """Return the path of a cell's file and what it holds."""

    def write(self, run_folder: Path, out: Path, *, organization: str) -> int:
        """Write one file per finished cell."""
        written = 0
        for cell in finished_cells(run_folder):
            path, content = self.content(cell, organization)
            write_whole(out / path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
            written += 1
        return written


def finished_cells(run_folder: Path) -> Iterator[FinishedCell]:
    """Yield the finished cells of a study.

    Raises:
        StoreError: there is no study in the folder, or a file is damaged.
    """
    from overtrain.results.frame import load_study
    from overtrain.results.store import Store
    from overtrain.results.study_file import read_metrics

    study, store = load_study(run_folder), Store(run_folder)
    for cell in study.cells:
        cell_id = cell.cell_id
        state = store.state(cell_id) if cell_id else None
        if cell_id and state is not None and state.status == "done":
            yield FinishedCell(
                study=study.name,
                record=cell,
                results=json.loads(store.read(cell_id, "results.json")),
                rows=read_metrics(store.read(cell_id, "metrics.json")),
                finished=state.finished,
            )
