"""Computes the identity of every cell before it runs.

An identity depends on the hashes of the weights, on the training rows, and on every request of every task. These are slow to
read. So the planner keeps identities in ``.work/plan.json`` of the study's folder, together with file stamps (names, sizes
and modification times). When the stamps are unchanged, a finished study is recognised without reading the files again.
``plan.json`` is a cache: if you delete it, the planner writes it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003  (read at run time by from_json)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import CheckpointError, OvertrainError
from model_wrappers.files import write_whole
from model_wrappers.identity import CellIdentity, digest, weights_digest
from overtrain.common.typed_json import from_json, to_json
from overtrain.plan.dtypes import evaluated_dtype
from overtrain.plan.jobs import Job, Plan, settings_of
from overtrain.plan.located import LocatedPoint
from overtrain.plan.stamps import checkpoint_stamp, data_stamp, tasks_stamp
from overtrain.plan.tasks import built_tasks
from overtrain.study.settings import LADDER_TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model_wrappers.modifications.base import Modification
    from overtrain.plan.cells import Cell
    from overtrain.study.study import Point

__all__ = ["Planner"]


@dataclass(frozen=True, kw_only=True)
class PlannedWeights:
    """Identities of a cell's weights.

    Attributes:
        stamp: file stamp of everything that the identities depend on.
        weights_id: identity of the evaluated weights.
        tuned_id: identity of the trained weights in the cache; None if nothing is trained.
        dtype: dtype of the evaluated weights.
        tokenizer: hash of the tokenizer.
    """

    stamp: str
    weights_id: str
    tuned_id: str | None
    dtype: str
    tokenizer: str


@dataclass(frozen=True, kw_only=True)
class _Recalled:
    """The contents of ``plan.json``.

    Attributes:
        requests: stamp of the tasks -> task -> sha256 of its requests.
        weights: key of a cell -> identities of its weights.
    """

    requests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    weights: Mapping[str, PlannedWeights] = field(default_factory=dict)


class Planner:
    """Computes the identities of a study's cells, or reads them from ``plan.json``.

    Args:
        root: the study's folder.
        located: digest of a point's spec -> the point with its folder. Untrained runs of a ladder are absent.
        text_file: path that ``text_file: ladder`` stands for.
    """

    def __init__(self, root: Path, located: Mapping[str, Point], text_file: str | None) -> None:
        self._root, self._text = root, text_file
        self._places = {key: LocatedPoint(point) for key, point in located.items()}
        self._path = root / ".work" / "plan.json"
        recalled = _recall(self._path)
        self._built, self._known = dict(recalled.requests), dict(recalled.weights)
        self._changed = False
        self._contents: dict[str, dict[str, Any]] = {}
        self._tasks_stamps: dict[tuple[str, ...], str] = {}
        self._data: dict[tuple[Any, ...], str] = {}

    def plan(self, cells: Sequence[Cell], *, compute: bool = True) -> Plan:
        """Return one job per cell. Cells with equal weights and equal requests share one job.

        Args:
            cells: cells of one study.
            compute: compute identities that are not in ``plan.json``. If False, such cells are listed as problems.

        Raises:
            CheckpointError: two checkpoints have the same weights.
            OvertrainError: a task or its rows have an error, which affects every cell.
        """
        jobs: dict[str, Job] = {}
        problems: dict[str, str] = {}
        sharing = _sharing(cells)
        for cell in cells:
            place = self._places.get(digest(cell.point.spec()))
            requests = self._requests(cell, compute=compute) if place else None
            if place is None or requests is None:
                problems[cell.key] = "not planned yet"
                continue
            try:
                weights = self._weights(cell, place, compute=compute)
            except OvertrainError as error:
                problems[cell.key] = str(error)
                continue
            if weights is None:
                problems[cell.key] = "not planned yet"
                continue
            job = self._job(cell, place, requests, weights, share=sharing[digest(cell.point.spec())] > 1)
            jobs.setdefault(job.cell_id, job)
        if compute:
            _refuse_duplicates(list(self._places.values()))
        if self._changed:
            used = set(self._tasks_stamps.values())
            kept = {stamp: requests for stamp, requests in self._built.items() if stamp in used}
            write_whole(self._path, json.dumps(to_json(_Recalled(requests=kept, weights=self._known))))
        return Plan(list(jobs.values()), problems)

    def _job(
        self, cell: Cell, place: LocatedPoint, requests: Mapping[str, str], weights: PlannedWeights, *, share: bool
    ) -> Job:
        return Job(
            cell=cell,
            point=place.point,
            text_file=self._text_of(cell),
            cell_id=CellIdentity(
                weights=weights.weights_id, tasks=requests, dtype=weights.dtype, tokenizer=weights.tokenizer
            ).cell_id,
            weights_id=weights.weights_id,
            tuned_id=weights.tuned_id,
            requests=dict(requests),
            tasks_stamp=self._tasks_stamp(cell),
            dtype=weights.dtype,
            tokenizer=weights.tokenizer,
            reuse_base=share and not _trained(cell),
            root=self._root,
        )

    def _text_of(self, cell: Cell) -> str | None:
        given = cell.evaluation.text_file
        return self._text if given == LADDER_TEXT else given

    def _requests(self, cell: Cell, *, compute: bool) -> Mapping[str, str] | None:
        text = self._text_of(cell)
        stamp = self._tasks_stamp(cell)
        known = self._built.get(stamp)
        if known is None and compute:
            known = built_tasks(cell.tasks, settings_of(cell, text), stamp).requests
            self._built[stamp] = known
            self._changed = True
        return known

    def _tasks_stamp(self, cell: Cell) -> str:
        """Return the file stamp of a cell's tasks. It is computed once for all cells with these tasks."""
        if cell.tasks not in self._tasks_stamps:
            self._tasks_stamps[cell.tasks] = tasks_stamp(cell, self._text_of(cell))
        return self._tasks_stamps[cell.tasks]

    def _weights(self, cell: Cell, place: LocatedPoint, *, compute: bool) -> PlannedWeights | None:
        """Return the identities of a cell's weights; None if they are unknown and not to be computed.

        Raises:
            OvertrainError: the checkpoint cannot be found, or its training data cannot be read.
        """
        names = tuple(getattr(m, name) for m in cell.modifications for name in m.files())
        if names not in self._data:
            self._data[names] = data_stamp(cell)
        others = [checkpoint_stamp(c) for m in cell.modifications for c in m.other_checkpoints(place.checkpoint)]
        code = [m.implementation() for m in cell.modifications]
        stamp = digest([place.stamp, self._data[names], cell.evaluation.dtype, others, code])
        known = self._known.get(cell.key)
        if known is not None and known.stamp == stamp:
            return known
        if not compute:
            return None
        steps = [self._identity(m, place) for m in cell.modifications]
        trained = _trained(cell)
        found = PlannedWeights(
            stamp=stamp,
            weights_id=weights_digest(place.checkpoint, steps),
            tuned_id=weights_digest(place.checkpoint, steps[:trained]) if trained else None,
            dtype=evaluated_dtype(place.checkpoint, cell.evaluation.dtype),
            tokenizer=place.tokenizer_sha256,
        )
        self._known[cell.key] = found
        self._changed = True
        return found

    def _identity(self, modification: Modification, place: LocatedPoint) -> dict[str, Any]:
        """Return a modification's part of ``weights_id``. A file that several cells use is read and hashed once."""
        wanted = {name: getattr(modification, name) for name in modification.content_fields()}
        key = digest([modification.name, wanted, place.vocabulary]) if wanted else ""
        if key not in self._contents:
            self._contents[key] = modification.content(place.tokenizer) if wanted else {}
        return modification.identity(place.checkpoint, place.tokenizer, self._contents[key])


def _trained(cell: Cell) -> int:
    """Return the number of steps up to the last one that trains; the weights after these steps are kept in the cache."""
    return max((i + 1 for i, m in enumerate(cell.modifications) if m.materialise), default=0)


def _sharing(cells: Sequence[Cell]) -> dict[str, int]:
    """Return how many cells of each checkpoint start from its base weights in memory."""
    counts: dict[str, int] = {}
    for cell in cells:
        key = digest(cell.point.spec())
        counts[key] = counts.get(key, 0) + (0 if _trained(cell) else 1)
    return counts


def _refuse_duplicates(places: Sequence[LocatedPoint]) -> None:
    first: dict[str, Point] = {}
    for place in places:
        try:
            place.stamp  # noqa: B018  (raises if the checkpoint cannot be found)
        except OvertrainError:
            continue
        other = first.setdefault(place.checkpoint.fingerprint(), place.point)
        if other is not place.point:
            raise CheckpointError(
                f"{other.label} and {place.point.label} are the same weights, byte by byte, so at least one of them is not "
                "what its name says; remove one from the study"
            )


def _recall(path: Path) -> _Recalled:
    """Return the contents of ``plan.json``; empty if the file is missing or was written by another version."""
    try:
        return from_json(_Recalled, json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return _Recalled()
