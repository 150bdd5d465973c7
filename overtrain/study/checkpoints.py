"""The ``checkpoints`` section of a study's file: its four forms become the study's checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import OvertrainError
from model_wrappers.yaml_nodes import child
from overtrain.pretrain.recipe import Recipe
from overtrain.study.forms import BaseForm, FoldersForm, LadderForm, RevisionsForm, TunedForm
from overtrain.study.study import BASE, LadderRun, Point, TunedCheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    import yaml

    from overtrain.study.reader import Reader

__all__ = ["checkpoints"]

Forms = RevisionsForm | FoldersForm | LadderForm | TunedForm


class Place(NamedTuple):
    """Where the weights of one checkpoint are."""

    repo: str
    local: bool
    revision: str = "main"
    subfolder: str = ""


class Labels(NamedTuple):
    """What the file calls a checkpoint, and what it knows of the pre-training."""

    family: str
    run: str
    tokens: int | None
    learning_rate: float | None


def checkpoints(reader: Reader, forms: Iterable[Forms]) -> tuple[tuple[Point, ...], tuple[TunedCheckpoint, ...]]:
    """Return the study's checkpoints, bases of tuned ones included, and the tuned ones; a repetition is noted."""
    points: list[Point] = []
    tuned: list[TunedCheckpoint] = []
    for form in forms:
        if isinstance(form, TunedForm):
            one = _tuned(reader, form)
            tuned += [] if one is None else [one]
            points += [] if one is None or _is_among(one.base, points) else [one.base]
            continue
        for point in _points(reader, form):
            if _is_among(point, points):
                reader.problem(child(form.node), f"checkpoints: {point.label} is there twice; keep one")
            else:
                points.append(point)
    return tuple(points), tuple(tuned)


def _is_among(point: Point, points: Iterable[Point]) -> bool:
    return any(point.spec() == other.spec() for other in points)


def _points(reader: Reader, form: RevisionsForm | FoldersForm | LadderForm) -> list[Point]:
    if isinstance(form, LadderForm):
        return _ladder(form)
    found: list[Point | None] = []
    if isinstance(form, RevisionsForm):
        family = form.family or form.repo.rpartition("/")[2]
        for one in form.revisions:
            place = Place(form.repo, local=False, revision=one.revision, subfolder=form.subfolder)
            labels = Labels(family, form.run or family, one.tokens, one.learning_rate)
            found.append(_point(reader, one.node, place, labels))
    else:
        for folder in form.folders:
            labels = Labels(form.family, form.run or form.family, folder.tokens, folder.learning_rate)
            found.append(_point(reader, folder.node, Place(folder.path, local=True), labels))
    return [point for point in found if point is not None]


def _point(reader: Reader, node: yaml.Node | None, place: Place, labels: Labels) -> Point | None:
    """Return a checkpoint; its tokens are from the file, its name or the files beside its weights."""
    tokens = labels.tokens
    try:
        repo = Path(place.repo) if place.local else place.repo
        given = {name: value for name in ("revision", "subfolder") if (value := getattr(place, name))}
        tokens = tokens or Checkpoint(repo=repo, **given).tokens_seen()
    except OvertrainError as error:
        reader.problem(child(node), str(error))
        return None
    if tokens is None:
        name = place.repo if place.local else place.revision
        reader.problem(child(node), f"checkpoints: nothing says how many tokens {name!r} has seen; give tokens: N")
        return None
    return Point(**place._asdict(), **labels._replace(tokens=tokens)._asdict())


def _ladder(form: LadderForm) -> list[Point]:
    """Return one checkpoint per initialisation and budget; the final learning rate of every run is 0."""
    names = [f.name for f in dataclasses.fields(Recipe) if f.name != "seed"]
    points = []
    for seed in form.ladder.init_seeds:
        recipe = Recipe(**{name: getattr(form.ladder, name) for name in names}, seed=seed)
        points += [
            Point(
                repo="",
                tokens=recipe.tokens(budget),
                learning_rate=0.0,
                family=form.family,
                run=f"seed-{seed}",
                ladder=LadderRun(recipe=recipe, budget=budget),
                local=True,
            )
            for budget in recipe.budgets
        ]
    return points


def _tuned(reader: Reader, form: TunedForm) -> TunedCheckpoint | None:
    if form.variant == BASE:
        node = child(form.node, "variant")
        reader.problem(node, f"variant={BASE!r}: that is the unmodified checkpoint; choose another name")
    below, place = _place(reader, form.base, "checkpoints.base"), _place(reader, form, "checkpoints")
    if below is None or place is None:
        return None
    family = form.family or below.repo.rstrip("/").rpartition("/")[2]
    labels = Labels(family, form.run or family, form.base.tokens, form.base.learning_rate)
    base = _point(reader, form.base.node, below, labels)
    if base is None:
        return None
    fields = {str(name): _number(value) for name, value in form.fields.items()}
    point = Point(**place._asdict(), **labels._replace(tokens=base.tokens)._asdict())
    return TunedCheckpoint(point=point, base=base, variant=form.variant, seed=form.seed, fields=fields)


def _place(reader: Reader, form: TunedForm | BaseForm, what: str) -> Place | None:
    if (form.repo is None) == (form.folder is None):
        given = {"repo", "folder"} & {str(key.value) for key, _ in child(form.node).value}
        if len(given) != 1:  # else the one that is given could not be read, which is noted
            reader.problem(child(form.node), f"{what}: give one of 'repo' and 'folder'")
        return None
    where = form.repo or form.folder or ""
    return Place(where, form.folder is not None, form.revision, form.subfolder)


def _number(value: Any) -> Any:
    """Return ``1e-5``, which YAML reads as text, as the number that it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
