"""Checks keys of a study's file against each other: variants, budgets, tasks and texts that must exist."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError, close_match
from model_wrappers.modifications.registry import registry
from model_wrappers.yaml_nodes import child, is_null
from overtrain.study.modifications import field_types
from overtrain.study.settings import LADDER_TEXT
from overtrain.study.study import BASE
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from overtrain.study.reader import Reader
    from overtrain.study.settings import PrimaryComparison, ReferenceChoice
    from overtrain.study.study import Study

__all__ = ["check_study", "own_tasks"]

_MOST_CELLS = 100_000


def check_study(reader: Reader, root: yaml.MappingNode, study: Study) -> Study:
    """Note what does not fit together; return the study with the types of its reference's fields set.

    Args:
        reader: collects the problems.
        root: the file, for their lines.
        study: as far as it could be read.
    """
    _check_name(reader, root, study)
    _check_size(reader, root, study)
    _check_tasks(reader, root, study)
    _check_text(reader, root, study)
    _check_answers(reader, root, study)
    if study.primary is not None:
        _check_primary(reader, child(root, "primary"), study, study.primary)
    if study.reference is None:
        return study
    return dataclasses.replace(study, reference=_reference(reader, child(root, "reference"), study, study.reference))


def _check_name(reader: Reader, root: yaml.Node, study: Study) -> None:
    if study.name == "ladders":
        reader.problem(
            child(root, "name"), "name='ladders': that folder holds pre-trained ladders; choose another name"
        )


def _check_size(reader: Reader, root: yaml.Node, study: Study) -> None:
    """Note a study with more cells than can be planned: a list too many, as a rule."""
    variants = sum(len(v.grid) * len(v.seeds) for v in study.variants)
    cells = len(study.points) * (1 + variants)
    if cells > _MOST_CELLS:
        reader.problem(
            child(root, "modifications"),
            f"the study has {cells:,} cells ({len(study.points):,} checkpoints, {variants:,} settings with their seeds); at "
            f"most {_MOST_CELLS:,}, shorten a list or make several studies of it",
        )


def _check_tasks(reader: Reader, root: yaml.Node, study: Study) -> None:
    """Note names that look like tasks of this package and are none; other names are lm-eval's."""
    if not any(task.startswith("overtrain_") for task in study.tasks):
        return
    known = own_tasks(study.evaluation.include_path)
    node = child(root, "tasks")
    for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        task = str(item.value)
        if task.startswith("overtrain_") and task not in known:
            reader.problem(
                item, f"tasks: no task {task!r}{close_match(task, known)} (ours: {', '.join(sorted(known))})"
            )


def own_tasks(include_path: str | None) -> set[str]:
    """Return the names in our task YAMLs and those of ``include_path``, without importing lm-eval."""
    import overtrain_tasks

    folders = [overtrain_tasks.path(), *([Path(include_path)] if include_path else [])]
    names: set[str] = set()
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            text = file.read_text("utf-8", errors="replace")
            names.update(re.findall(r"^(?:task|group|tag): *['\"]?([\w.-]+)", text, re.MULTILINE))
    return names


def _check_text(reader: Reader, root: yaml.Node, study: Study) -> None:
    text = study.evaluation.text_file
    if text == LADDER_TEXT and study.points and not any(p.ladder for p in study.points):
        reader.problem(
            child(root, "evaluation", "text_file"),
            "text_file=ladder: the study has no ladder; name a .jsonl, .parquet or .txt file",
        )
    given = child(root, "evaluation", "text_file")
    unreadable = text is None and isinstance(given, yaml.ScalarNode) and not is_null(given)
    if "overtrain_text" in study.tasks and text is None and study.points and not unreadable:
        reader.problem(child(root, "tasks"), "overtrain_text: needs a text; give evaluation: {text_file: FILE}")


def _check_answers(reader: Reader, root: yaml.Node, study: Study) -> None:
    """Note sections about win rates in a study that generates no answers, and weights kept by a win rate."""
    if study.tasks and TASK not in study.tasks:
        by = child(root, "select")
        asked = [("judge", study.judge is not None), ("reference", study.reference is not None)]
        for name, given in [*asked, (f"select={getattr(by, 'value', '')}", study.select.how != "metric")]:
            if given:
                node = child(root, name.partition("=")[0])
                reader.problem(node, f"{name}: nothing generates answers; add {TASK} to tasks")
    if study.select.how == "metric" and (study.select.task, study.select.metric) == (TASK, "win_rate"):
        reader.problem(
            child(root, "select"),
            "select: by the win rate: give select: alpaca_eval (cross-fitted), or select: paper (biased, as in the paper)",
        )
    if study.select.how != "metric" and study.keep_weights == "best":
        reader.problem(
            child(root, "keep_weights"), "keep_weights=best: win rates are known after judging only; give none or all"
        )


def _check_primary(reader: Reader, node: yaml.Node, study: Study, primary: PrimaryComparison) -> None:
    names = [BASE, *(v.name for v in study.variants), *(t.variant for t in study.tuned)]
    name = primary.variant
    if name not in names and len(names) > 1:
        near = close_match(name, names)
        reader.problem(
            child(node, "variant"), f"primary.variant={name!r}: no such variant{near} (there: {', '.join(names)})"
        )
    budgets = sorted({p.tokens for p in study.points})
    there = ", ".join(map(str, budgets))
    where = child(node, "compare")
    for tokens in primary.compare if budgets else ():
        if tokens not in budgets:
            reader.problem(where, f"primary.compare: no checkpoint has seen {tokens} tokens (there: {there})")
    if primary.compare[0] == primary.compare[1]:
        reader.problem(where, f"primary.compare: {primary.compare[0]} is given twice; give two budgets")
    grid = [value for v in study.variants if v.name == name for values in v.axes.values() for value in values]
    if primary.at is not None and primary.at not in grid:
        points = ", ".join(map(str, grid))
        reader.problem(
            child(node, "at"), f"primary.at={primary.at:g}: no point of {name}'s grid (there: {points or 'none'})"
        )


def _reference(reader: Reader, node: yaml.Node, study: Study, reference: ReferenceChoice) -> ReferenceChoice:
    """Return the reference with its modification's fields read as their types; note those that no variant has."""
    kinds = {type(step) for v in study.variants for steps in v.grid for step in steps}
    types = field_types(registry().values() if reader.problems else kinds)
    tuned = {name for t in study.tuned for name in t.fields}
    varied = [name for v in study.variants for name in v.axes if name in types]
    own = [name for name in reference.describe() if name not in reference.fields]
    known = list(dict.fromkeys([*own, *varied, *sorted(tuned)]))
    fields: dict[str, Any] = {}
    for name, value in reference.fields.items():
        if name not in types and name not in tuned:
            near = close_match(name, [*known, *types])
            reader.problem(
                _key(node, name), f"reference: unknown key {name!r}{near} (allowed: {', '.join(known)}, and other fields "
                "of the study's modifications)"
            )  # fmt: skip
            continue
        try:
            fields[name] = coerce(f"reference.{name}", value, types.get(name, float | str))
        except ConfigError as error:
            reader.problem(child(node, name), str(error))
    return dataclasses.replace(reference, fields=fields)


def _key(node: yaml.Node, name: str) -> yaml.Node:
    """Return the node of a mapping's key itself."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((key for key, _ in pairs if str(key.value) == name), node)
