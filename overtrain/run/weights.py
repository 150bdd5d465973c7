"""Removes tuned weights from the cache when no cell of the study needs them, unless the study keeps them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from model_wrappers.cache import WeightsCache
from model_wrappers.files import write_whole
from overtrain.results.metrics import TRAINING
from overtrain.results.study_file import read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from overtrain.plan.jobs import Job
    from overtrain.results.store import Store
    from overtrain.study.study import Study

__all__ = ["note_if_new", "release"]


def note_if_new(job: Job) -> None:
    """Note that the job is about to train weights that the cache does not have, so that they are ours to remove.

    What was in the cache before, made by hand or by another study, is never removed. The note outlives a kill.
    """
    mark = _mark(job.root, job.tuned_id or "")
    if not mark.exists() and WeightsCache().get(job.tuned_id or "") is None:
        write_whole(mark, b"")


def release(job: Job, study: Study, jobs: Iterable[Job], store: Store) -> None:
    """Remove the job's tuned weights from the cache if no unfinished cell needs them and the study does not keep them.

    ``keep_weights: none`` keeps nothing, ``all`` everything, ``best`` those of the best finished cell of every checkpoint and
    variant by the metric that the study selects by.
    """
    if job.tuned_id is None or study.keep_weights == "all":
        return
    trained = [other for other in jobs if other.tuned_id is not None]
    if study.keep_weights == "none":
        _remove_if_unused({job.tuned_id}, job.root, trained, store)
        return
    group = [o for o in trained if (o.cell.checkpoint, o.cell.variant) == (job.cell.checkpoint, job.cell.variant)]
    scored = [(score, o.tuned_id or "") for o in group if (score := _score(o, study, store)) is not None]
    best = min(scored)[1] if scored else None
    _remove_if_unused({o.tuned_id or "" for o in group} - {best or ""}, job.root, trained, store)


def _remove_if_unused(ids: Iterable[str], root: Path, trained: Sequence[Job], store: Store) -> None:
    for tuned_id in ids:
        mark = _mark(root, tuned_id)
        if not mark.exists():
            continue
        if any(store.state(o.cell_id).status in {"missing", "cancelled"} for o in trained if o.tuned_id == tuned_id):
            continue
        _remove(tuned_id)
        mark.unlink(missing_ok=True)


def _remove(tuned_id: str) -> None:
    """Remove an entry in one step: it is renamed to what a killed training leaves, which counts as absent."""
    cache = WeightsCache()
    with cache.lock(tuned_id):
        entry, renamed = cache.root / tuned_id, cache.root / f".{tuned_id}.tmp"
        if entry.is_dir():
            shutil.rmtree(renamed, ignore_errors=True)
            entry.rename(renamed)
            shutil.rmtree(renamed, ignore_errors=True)


def _score(job: Job, study: Study, store: Store) -> float | None:
    """Return the score by which the study selects (lower is better), or None for a cell without it."""
    if store.state(job.cell_id).status != "done":
        return None
    for row in read_metrics(store.read(job.cell_id, "metrics.json")):
        if row.metric == study.select.metric and row.task in {study.select.task, TRAINING}:
            if row.value is None:
                return None
            return -row.value if row.higher_is_better else row.value
    return None


def _mark(root: Path, tuned_id: str) -> Path:
    return root / ".work" / f"{tuned_id}.trained"
