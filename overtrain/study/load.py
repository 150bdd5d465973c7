"""A study's YAML file: read strictly, with every error at once.

Keys: ``name``, ``description``, ``checkpoints``, ``modifications``, ``seeds``, ``tasks``, ``evaluation``, ``select``,
``reference``, ``judge``, ``primary``, ``plateau_margin``, ``keep_weights``, ``resources``, and ``include`` (other files to lay
this one on). A list is a grid axis, except where the field itself is a list. Tokens are integers (``2_353_000_000_000`` reads
well), learning rates are as written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from model_wrappers.errors import ConfigError, close_match
from overtrain.study.alpaca_eval import check_answers, read_judge, read_reference, read_select
from overtrain.study.checkpoints import read_checkpoints
from overtrain.study.modifications import read_variants
from overtrain.study.study import BASE, LADDER_TEXT, Evaluation, Keep, Primary, Resources, Study
from overtrain.study.yaml_lines import Reader, compose

if TYPE_CHECKING:
    from overtrain.study.study import Point, Variant

__all__ = ["find_preset", "load_study", "preset_names"]

_KEYS = (
    *("name", "description", "checkpoints", "modifications", "seeds", "tasks", "evaluation", "select"),
    *("reference", "judge", "primary", "plateau_margin", "keep_weights", "resources"),
)
_EVALUATION = (
    *("limit", "num_fewshot", "dtype", "metadata", "text_file", "include_path", "batch_size", "device", "samples"),
    *("trust_remote_code", "generate_backend"),
)


def load_study(file: str | Path) -> Study:
    """Read the study of ``file``: a path, or a preset's name such as ``micro/demo``.

    Raises:
        ConfigError: no such file, or everything that is wrong in it, each with its line.
    """
    path = find_preset(file)
    reader = Reader()
    top = reader.mapping(compose(path, reader), "study", _KEYS, ("name", "checkpoints", "tasks"))
    name = _name(reader, top.get("name"))
    points, tuned = read_checkpoints(reader, top.get("checkpoints"), path)
    seeds = reader.values(top.get("seeds"), "seeds", int, (0,))
    variants = read_variants(reader, top.get("modifications"), seeds, path)
    evaluation = _evaluation(reader, top.get("evaluation"), path)
    tasks = _tasks(reader, top.get("tasks"), evaluation)
    study = Study(
        name=name,
        description=reader.value(top.get("description"), "description", str, ""),
        points=points,
        tuned=tuned,
        variants=variants,
        seeds=seeds,
        tasks=tasks,
        evaluation=_with_text(reader, top.get("tasks"), tasks, evaluation, points),
        select=read_select(reader, top.get("select"), tasks),
        reference=read_reference(reader, top.get("reference")),
        judge=read_judge(reader, top.get("judge"), tasks),
        primary=_primary(reader, top.get("primary"), variants, tuned, points),
        plateau_margin=reader.number(top.get("plateau_margin"), "plateau_margin", float, 0.0),
        keep_weights=reader.value(top.get("keep_weights"), "keep_weights", Keep, "none"),
        resources=_resources(reader, top.get("resources")),
        file=path,
    )
    check_answers(reader, top, study)
    reader.finish(path)
    return study


def find_preset(name: str | Path) -> Path:
    """Return the file called ``name``: a path, or a preset of the installation, with or without ``.yaml``.

    Raises:
        ConfigError: there is neither; the message names the presets.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given.resolve()
    for folder in _preset_folders():
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate.resolve()
    known = preset_names()
    raise ConfigError(
        f"{str(name)!r}: no such file and no such preset{close_match(str(name).removesuffix('.yaml'), known)} (presets: "
        f"{', '.join(known)}); give a YAML file or a preset"
    )


def preset_names() -> list[str]:
    """Return the presets of this installation, e.g. ``micro/demo``.

    What lies in a folder ``_parts`` is only included; ``alpaca_eval`` holds files of that program.
    """
    found = {
        str(file.relative_to(folder).with_suffix(""))
        for folder in _preset_folders()
        for file in folder.rglob("*.yaml")
        if {"_parts", "alpaca_eval"}.isdisjoint(file.relative_to(folder).parts)
    }
    return sorted(found)


def _preset_folders() -> list[Path]:
    """Return where presets are: inside the installed package, or beside it in a checkout of the repository."""
    package = Path(__file__).resolve().parents[1]
    places = [package / "configs"]
    if (package.parent / "pyproject.toml").is_file():
        places.append(package.parent / "configs")
    return [place for place in places if place.is_dir()]


def _name(reader: Reader, node: yaml.Node | None) -> str:
    name = reader.value(node, "name", str, "")
    if node is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        reader.problem(
            node, f"name={name!r}: names a folder; letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    if name == "ladders":
        reader.problem(node, "name='ladders': that folder holds pre-trained ladders; choose another name")  # type: ignore[arg-type]
    return str(name)


def _tasks(reader: Reader, node: yaml.Node | None, evaluation: Evaluation) -> tuple[str, ...]:
    tasks = reader.values(node, "tasks", str)
    if node is None or not any(task.startswith("overtrain_") for task in tasks):
        return tasks
    known = _own_tasks(evaluation.include_path)
    for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        task = str(item.value)
        if task.startswith("overtrain_") and task not in known:
            reader.problem(
                item, f"tasks: no task {task!r}{close_match(task, known)} (ours: {', '.join(sorted(known))})"
            )
    return tasks


def _own_tasks(include_path: str | None) -> set[str]:
    """Return the names in our task YAMLs and those of ``include_path``, without importing lm-eval."""
    import overtrain_tasks

    folders = [overtrain_tasks.path(), *([Path(include_path)] if include_path else [])]
    names: set[str] = set()
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            names.update(re.findall(r"^(?:task|group|tag): *['\"]?([\w.-]+)", file.read_text("utf-8"), re.MULTILINE))
    return names


def _evaluation(reader: Reader, node: yaml.Node | None, file: Path) -> Evaluation:
    if node is None:
        return Evaluation()
    found = reader.mapping(node, "evaluation", _EVALUATION)
    metadata = reader.plain(found["metadata"]) if "metadata" in found else {}
    if not isinstance(metadata, dict):
        reader.problem(found["metadata"], "metadata: must be a mapping such as {documents: 500}")
        metadata = {}
    batch = reader.value(found.get("batch_size"), "batch_size", int | str, "auto")
    if (isinstance(batch, int) and batch < 1) or (isinstance(batch, str) and not re.fullmatch(r"auto(:\d+)?", batch)):
        reader.problem(found["batch_size"], f"batch_size={batch}: must be an integer of 1 or more, or auto")
    return Evaluation(
        limit=reader.number(found.get("limit"), "limit", int | None, 0),
        num_fewshot=reader.number(found.get("num_fewshot"), "num_fewshot", int | None, -1),
        dtype=reader.value(found.get("dtype"), "dtype", Literal["auto", "float32", "bfloat16", "float16"], "auto"),
        metadata=metadata,
        text_file=_path(reader, found.get("text_file"), "text_file", file),
        include_path=_path(reader, found.get("include_path"), "include_path", file),
        batch_size=batch,
        device=reader.value(found.get("device"), "device", str | None),
        samples=reader.value(found.get("samples"), "samples", bool, False),
        trust_remote_code=reader.value(found.get("trust_remote_code"), "trust_remote_code", bool, False),
        generate_backend=reader.value(found.get("generate_backend"), "generate_backend", Literal["hf", "vllm"], "hf"),
    )


def _path(reader: Reader, node: yaml.Node | None, what: str, file: Path) -> str | None:
    """Return the absolute path that a value names, looked for beside the study's file, then in the working directory."""
    value = reader.value(node, what, str | None)
    if node is None or value is None or (what == "text_file" and value == LADDER_TEXT):
        return value
    for place in (Path(node.start_mark.name).parent / Path(value).expanduser(), Path(value).expanduser()):
        if place.exists():
            return str(place.resolve())
    reader.problem(node, f"{what}={value!r}: no such file beside {file.name} or in the working directory")
    return None


def _with_text(
    reader: Reader, node: yaml.Node | None, tasks: tuple[str, ...], evaluation: Evaluation, points: tuple[Point, ...]
) -> Evaluation:
    """Point ``overtrain_text`` to the ladder's held-out text where the file names no other."""
    import dataclasses
    import os

    ladder = any(p.ladder for p in points)
    if evaluation.text_file == LADDER_TEXT and not ladder and node is not None:
        reader.problem(node, "text_file=ladder: the study has no ladder; name a .jsonl, .parquet or .txt file")
    if "overtrain_text" not in tasks or evaluation.text_file is not None:
        return evaluation
    if ladder:
        return dataclasses.replace(evaluation, text_file=LADDER_TEXT)
    given = os.environ.get("OVERTRAIN_TEXT")
    if given:
        return dataclasses.replace(evaluation, text_file=str(Path(given).resolve()))
    if node is not None and points:
        reader.problem(node, "overtrain_text: needs a text; give evaluation: {text_file: FILE}")
    return evaluation


def _primary(
    reader: Reader,
    node: yaml.Node | None,
    variants: tuple[Variant, ...],
    tuned: tuple[Any, ...],
    points: tuple[Point, ...],
) -> Primary | None:
    if node is None:
        return None
    keys = ("task", "metric", "variant", "compare")
    found = reader.mapping(node, "primary", (*keys, "at"), keys)
    names = [BASE, *(v.name for v in variants), *(t.variant for t in tuned)]
    variant = reader.value(found.get("variant"), "primary.variant", str, "")
    if "variant" in found and variant not in names and (variants or tuned):
        reader.problem(
            found["variant"],
            f"primary.variant={variant!r}: no such variant{close_match(variant, names)} (there: {', '.join(names)})",
        )
    compare = reader.values(found.get("compare"), "primary.compare", int)
    budgets = sorted({p.tokens for p in points})
    if "compare" in found and len(compare) != 2:
        reader.problem(found["compare"], f"primary.compare: must be two budgets in tokens, not {len(compare)}")
    for tokens in compare:
        if budgets and tokens not in budgets:
            reader.problem(
                found["compare"],
                f"primary.compare: no checkpoint has seen {tokens} tokens (there: {', '.join(map(str, budgets))})",
            )
    return Primary(
        task=reader.value(found.get("task"), "primary.task", str, ""),
        metric=reader.value(found.get("metric"), "primary.metric", str, ""),
        variant=variant,
        compare=(compare[0], compare[-1]) if compare else (0, 0),
        at=_point_of_grid(reader, found.get("at"), variant, variants),
    )


def _point_of_grid(reader: Reader, node: yaml.Node | None, variant: str, variants: tuple[Variant, ...]) -> float | None:
    at = reader.value(node, "primary.at", float | None)
    there = [v for x in variants if x.name == variant for values in x.axes.values() for v in values]
    if node is not None and at is not None and at not in there:
        reader.problem(node, f"primary.at={at:g}: no point of {variant}'s grid (there: {', '.join(map(str, there))})")
    return at


def _resources(reader: Reader, node: yaml.Node | None) -> Resources:
    if node is None:
        return Resources()
    found = reader.mapping(node, "resources", ("cpus", "gpus", "processes", "retries"))
    return Resources(
        cpus=reader.number(found.get("cpus"), "cpus", float, 0, 1),
        gpus=reader.number(found.get("gpus"), "gpus", float, -1e-9, 0),
        processes=reader.number(found.get("processes"), "processes", int, 0, 1),
        retries=reader.number(found.get("retries"), "retries", int, -1, 3),
    )
