"""The ``checkpoints`` section of a study's file.

A list of: ``{repo, revisions: [...]}``; ``{folders: [...]}``; ``{ladder: {budgets, init_seeds, ...}}``, pre-trained first; and
``{repo, revision, base: {repo, revision}, ...}``, modified elsewhere.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import OvertrainError
from overtrain.pretrain.recipe import Recipe
from overtrain.study.study import BASE, LadderRun, Point, Tuned

if TYPE_CHECKING:
    from overtrain.study.yaml_lines import Reader

__all__ = ["read_checkpoints"]

_REVISIONS = ("repo", "revisions", "family", "run", "subfolder")
_FOLDERS = ("folders", "family", "run")
_LADDER = ("ladder", "family")
_ONE = ("revision", "tokens", "learning_rate")
_FOLDER = ("path", "tokens", "learning_rate")
_TUNED = ("repo", "revision", "folder", "subfolder", "base", "variant", "seed", "family", "run", "fields")
_BASE = ("repo", "revision", "folder", "subfolder", "tokens", "learning_rate")


def read_checkpoints(reader: Reader, node: yaml.Node | None, file: Path) -> tuple[tuple[Point, ...], tuple[Tuned, ...]]:
    """Return the study's checkpoints, bases of tuned ones included, and the tuned ones; no checkpoint twice."""
    if node is None:
        return (), ()
    points: list[Point] = []
    tuned: list[Tuned] = []
    for item in reader.items(node, "checkpoints"):
        keys = {str(k.value) for k, _ in item.value} if isinstance(item, yaml.MappingNode) else set()
        if "base" in keys:
            one = _tuned(reader, item, file)
            found = [] if one is None else [one.base]
            tuned += [] if one is None else [one]
            points += [p for p in found if p.spec() not in [q.spec() for q in points]]
            continue
        if "folders" in keys:
            found = _folders(reader, item, file)
        elif "ladder" in keys:
            found = _ladder(reader, item)
        else:
            found = _revisions(reader, item)
        for point in found:
            if any(point.spec() == earlier.spec() for earlier in points):
                reader.problem(item, f"checkpoints: {point.label} is there twice; keep one")
            else:
                points.append(point)
    return tuple(points), tuple(tuned)


def _revisions(reader: Reader, node: yaml.Node) -> list[Point]:
    found = reader.mapping(node, "checkpoints", _REVISIONS, ("repo", "revisions"))
    repo = reader.value(found.get("repo"), "repo", str, "")
    family = reader.value(found.get("family"), "family", str, repo.rpartition("/")[2])
    run = reader.value(found.get("run"), "run", str, family)
    subfolder = reader.value(found.get("subfolder"), "subfolder", str, "")
    if not repo or "revisions" not in found:
        return []
    points = []
    for item in reader.items(found["revisions"], "revisions"):
        one = _given(reader, item, "revision", _ONE, "revisions")
        revision = reader.value(one.get("revision"), "revision", str, "")
        point = _point(
            reader, item, one, repo=repo, revision=revision, subfolder=subfolder, family=family, run=run, local=False
        )
        points += [point] if point else []
    return points


def _folders(reader: Reader, node: yaml.Node, file: Path) -> list[Point]:
    found = reader.mapping(node, "checkpoints", _FOLDERS, ("folders",))
    family = reader.value(found.get("family"), "family", str, "folders")
    run = reader.value(found.get("run"), "run", str, family)
    points = []
    for item in reader.items(found["folders"], "folders"):
        one = _given(reader, item, "path", _FOLDER, "folders")
        folder = _folder(reader, one.get("path"), file)
        if folder is None:
            continue
        point = _point(reader, item, one, repo=folder, family=family, run=run, local=True)
        points += [point] if point else []
    return points


def _given(reader: Reader, node: yaml.Node, key: str, allowed: tuple[str, ...], what: str) -> dict[str, yaml.Node]:
    """Return a mapping's nodes; a bare value stands for a mapping with nothing but ``key``."""
    return {key: node} if isinstance(node, yaml.ScalarNode) else reader.mapping(node, what, allowed, (key,))


def _folder(reader: Reader, node: yaml.Node | None, file: Path) -> str | None:
    """Return the absolute path of a folder named relative to the file that it stands in, or to the working directory."""
    value = reader.value(node, "path", str)
    if node is None or value is None:
        return None
    for place in (Path(node.start_mark.name).parent / Path(value).expanduser(), Path(value).expanduser()):
        if place.is_dir():
            return str(place.resolve())
    reader.problem(node, f"folders: {value!r}: no such folder beside {file.name} or in the working directory")
    return None


def _point(reader: Reader, node: yaml.Node, given: dict[str, yaml.Node], **where: Any) -> Point | None:
    """Return a checkpoint with its tokens, from the file, its name or what lies beside its weights."""
    tokens = reader.number(given.get("tokens"), "tokens", int, 0)
    rate = reader.number(given.get("learning_rate"), "learning_rate", float, -1e-30)
    places = {key: where[key] for key in ("revision", "subfolder") if where.get(key)}
    try:
        repo = Path(where["repo"]) if where["local"] else where["repo"]
        tokens = tokens or Checkpoint(repo=repo, **places).tokens_seen()
    except OvertrainError as error:
        reader.problem(node, str(error))
        return None
    if tokens is None:
        name = where.get("revision") or where["repo"]
        reader.problem(node, f"checkpoints: nothing says how many tokens {name!r} has seen; give tokens: N")
        return None
    return Point(tokens=tokens, learning_rate=rate, **where)


def _ladder(reader: Reader, node: yaml.Node) -> list[Point]:
    """Return one checkpoint per initialisation and budget; the final learning rate of every run is 0."""
    found = reader.mapping(node, "checkpoints", _LADDER, ("ladder",))
    family = reader.value(found.get("family"), "family", str, "ladder")
    types = typing.get_type_hints(Recipe)
    own = tuple(f.name for f in dataclasses.fields(Recipe) if f.name != "seed")
    fields = reader.mapping(found["ladder"], "ladder", (*own, "init_seeds"), ("budgets",))
    seeds = reader.values(fields.pop("init_seeds", None), "init_seeds", int, (0,))
    values: dict[str, Any] = {}
    for name, value in fields.items():
        plain = typing.get_origin(types[name]) is not tuple
        kind = types[name] if plain else typing.get_args(types[name])[0]
        values[name] = reader.value(value, name, kind) if plain else reader.values(value, name, kind)
    if any(value is None or value == () for value in values.values()):
        return []
    points = []
    for seed in seeds:
        try:
            recipe = Recipe(**values, seed=seed)
        except (OvertrainError, TypeError) as error:
            reader.problem(found["ladder"], f"ladder: {error}")
            return []
        points += [
            Point(
                repo="",
                tokens=recipe.tokens(budget),
                learning_rate=0.0,
                family=family,
                run=f"seed-{seed}",
                ladder=LadderRun(recipe=recipe, budget=budget),
                local=True,
            )
            for budget in recipe.budgets
        ]
    return points


def _tuned(reader: Reader, node: yaml.Node, file: Path) -> Tuned | None:
    found = reader.mapping(node, "checkpoints", _TUNED, ("base", "variant"))
    below = reader.mapping(found["base"], "base", _BASE)
    labels: dict[str, str] = {key: reader.value(found[key], key, str) for key in ("family", "run") if key in found}
    base = _base(reader, found["base"], below, file, labels)
    variant = reader.value(found.get("variant"), "variant", str, "")
    if variant == BASE:
        reader.problem(found["variant"], f"variant={BASE!r}: that is the unmodified checkpoint; choose another name")
    fields = reader.plain(found["fields"]) if "fields" in found else {}
    if not isinstance(fields, dict):
        reader.problem(found["fields"], "fields: must be a mapping such as {learning_rate: 1e-5}")
        fields = {}
    if base is None:
        return None
    place = _place(reader, node, found, file)
    if place is None:
        return None
    point = Point(**place, tokens=base.tokens, learning_rate=base.learning_rate, family=base.family, run=base.run)
    return Tuned(
        point=point,
        base=base,
        variant=variant,
        seed=reader.value(found.get("seed"), "seed", int),
        fields={str(key): _number(value) for key, value in fields.items()},
    )


def _base(
    reader: Reader, node: yaml.Node, given: dict[str, yaml.Node], file: Path, labels: dict[str, str]
) -> Point | None:
    place = _place(reader, node, given, file)
    if place is None:
        return None
    family = labels.get("family") or str(place["repo"]).rstrip("/").rpartition("/")[2]
    return _point(reader, node, given, **place, family=family, run=labels.get("run") or family)


def _place(reader: Reader, node: yaml.Node, given: dict[str, yaml.Node], file: Path) -> dict[str, Any] | None:
    """Return repo or folder, revision and subfolder as `Point` takes them."""
    if ("repo" in given) == ("folder" in given):
        reader.problem(node, "checkpoints: give one of 'repo' and 'folder'")
        return None
    local = "folder" in given
    repo = _folder(reader, given["folder"], file) if local else reader.value(given["repo"], "repo", str)
    if not repo:
        return None
    revision = reader.value(given.get("revision"), "revision", str, "main")
    subfolder = reader.value(given.get("subfolder"), "subfolder", str, "")
    return {"repo": repo, "revision": revision, "subfolder": subfolder, "local": local}


def _number(value: Any) -> Any:
    """Return ``1e-5``, which YAML reads as text, as the number that it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
