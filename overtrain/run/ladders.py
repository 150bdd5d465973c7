"""Ladders of a study: pre-trained first, kept under ``runs/ladders/`` and shared by every study with the same recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.files import writing
from model_wrappers.identity import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from overtrain.pretrain.recipe import Recipe
    from overtrain.study.study import LadderRun, Point

__all__ = ["FOLDER", "held_out", "locate", "missing_runs", "pretrain_missing"]

FOLDER = "ladders"


def locate(points: Iterable[Point], runs: Path) -> dict[str, Point]:
    """Return digest of spec -> point with its folder, for published checkpoints, folders and pre-trained runs.

    Raises:
        StoreError: a folder under ``runs`` holds a checkpoint of another recipe or of other text.
    """
    found: dict[str, Point] = {}
    for point in points:
        if point.ladder is None:
            found[digest(point.spec())] = point
        elif _is_there(point.ladder, runs):
            found[digest(point.spec())] = dataclasses.replace(point, repo=str(_folder(point.ladder, runs).resolve()))
    return found


def held_out(points: Iterable[Point], runs: Path) -> Path | None:
    """Return the held-out documents of the first ladder's text; None if there is no ladder."""
    first = next((p.ladder for p in points if p.ladder), None)
    return None if first is None else (_home(first.recipe, runs) / "text" / "held_out.jsonl").resolve()


def missing_runs(points: Iterable[Point], runs: Path) -> list[LadderRun]:
    """Return the runs that are not pre-trained yet, the longest first."""
    missing = [p.ladder for p in points if p.ladder is not None and not _is_there(p.ladder, runs)]
    return sorted(missing, key=lambda run: run.recipe.tokens(run.budget), reverse=True)


def pretrain_missing(
    points: Sequence[Point],
    runs: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Pre-train every missing run of the study's ladders. If several processes use one folder, one of them trains.

    Args:
        points: of the study.
        runs: the folder of all studies.
        workers: processes with one thread each; default one per CPU.
        progress: called with numbers of tokens as they are trained on.

    Raises:
        DataError: there is not enough text for the largest budget.
        StoreError: the folder holds another ladder, or cannot be written.
    """
    from filelock import FileLock

    homes = dict.fromkeys(_home(p.ladder.recipe, runs) for p in points if p.ladder is not None)
    for home in homes:
        own = [p for p in points if p.ladder is not None and _home(p.ladder.recipe, runs) == home]
        if not missing_runs(own, runs):
            continue
        with writing(runs):
            home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"), writing(runs):
            _pretrain(own, runs, workers, progress)


def _pretrain(points: Sequence[Point], runs: Path, workers: int | None, progress: Callable[[int], None]) -> None:
    """Pre-train the missing runs of one recipe."""
    from overtrain.common.pool import Pool
    from overtrain.pretrain.ladder import finished, train_run
    from overtrain.pretrain.prepared import prepare

    recipe = next(p.ladder.recipe for p in points if p.ladder is not None)
    home = _home(recipe, runs)
    text = prepare(recipe, home / "text")
    todo = [
        run
        for run in missing_runs(points, runs)
        if not finished(run.recipe, run.budget, text, _folder(run, runs).parent)
    ]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with Pool(workers, environment, home / "logs") as pool:
        for run in todo:
            pool.submit(str(run.budget), train_run, run.recipe, run.budget, text, _folder(run, runs).parent)
        for _ in pool.finished(progress):
            pass


def _home(recipe: Recipe, runs: Path) -> Path:
    """Return the folder of a recipe's ladders: text and tokenizer depend on the vocabulary and the largest budget."""
    about = recipe.run(recipe.budgets[-1])
    del about["seed"]
    return Path(runs) / FOLDER / digest(about)[:12]


def _folder(run: LadderRun, runs: Path) -> Path:
    from overtrain.pretrain.ladder import checkpoint_folder

    return checkpoint_folder(run.recipe, run.budget, _home(run.recipe, runs) / f"seed-{run.recipe.seed}")


def _is_there(run: LadderRun, runs: Path) -> bool:
    from overtrain.pretrain.ladder import finished
    from overtrain.pretrain.prepared import PreparedText

    text = PreparedText(_home(run.recipe, runs) / "text")
    folder = _folder(run, runs)
    return (text.root / "text.json").exists() and finished(run.recipe, run.budget, text, folder.parent)
