"""The reference of AlpacaEval's win rates: which tuned checkpoint the answers of a study are compared with.

Per family and variant one cell: the same architecture, tuned on the same data. By default the middle of the rate grid (the
lower middle of an even one) at the last checkpoint, first run, first seed. A study names another under ``reference``, the
command line one cell of one variant. A reference with a seed that the study does not have is a cell of its own that
generates answers and is on no curve: nothing then has to be left out.

Source: Springer et al. (2025), Appendix B.3: the reference has one fixed seed and learning rate.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import close_match
from overtrain.plan.axes import axes_of_columns, selected_value
from overtrain.plan.cells import seeded
from overtrain.results.naming import named
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from overtrain.plan.cells import Cell
    from overtrain.study.settings import ReferenceChoice
    from overtrain.study.study import Study

__all__ = ["Group", "generates", "groups", "reference_cell", "reference_problems"]


@dataclass(frozen=True)
class Group:
    """Cells whose answers are compared with one reference: one family, variant and fine-tuning data.

    Attributes:
        family: of the checkpoints.
        variant: of the study.
        reference: the reference's entry in ``study.json``; its ``cell_id`` is None while nothing is planned.
        default: whether nobody chose it.
        cells: entries to judge, in the study's order, the reference excluded.
    """

    family: str
    variant: str
    reference: dict[str, Any]
    default: bool
    cells: tuple[dict[str, Any], ...]


def generates(cell: Cell) -> bool:
    """Say whether a cell's answers are judged: it is tuned, and `TASK` is among its tasks."""
    tuned = cell.base is not None or any(m.materialise for m in cell.modifications)
    return tuned and TASK in cell.tasks


def groups(manifest: Mapping[str, Any], override: str | None = None) -> list[Group]:
    """Return the groups of a study's ``study.json``, in its order.

    Args:
        manifest: of `overtrain.results.manifest.read_manifest`.
        override: a cell in place of the reference of its own group: ``cell_id`` (eight characters are enough), label, or a
            pattern (``*``, ``?``) for labels that fits one cell. The other groups keep theirs.

    Raises:
        ConfigError: ``override`` names no cell with answers, or several.
    """
    answering = [entry for entry in manifest["cells"] if entry.get("answers")]
    chosen = named(answering, override, "reference") if override else None
    wanted = manifest["study"].get("reference") or {}
    found = []
    for members in _grouped(answering):
        applies = _applies(members, wanted)
        given = chosen is not None and any(e is chosen for e in members)
        reference = chosen if chosen is not None and given else _choose(members, wanted if applies else {})
        default = not given and not (applies and wanted.get("seed") in (None, reference["seed"]))
        cells = tuple(e for e in members if e is not reference and not e.get("reference_only"))
        first = members[0]
        found.append(Group(first["family"], first["variant"], reference, default, cells))
    return found


def reference_cell(study: Study, cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells that ``reference: {seed: ...}`` adds: one per group whose variant lacks that seed, with `TASK` alone.

    Args:
        study: with its ``reference``.
        cells: all others of the study.
    """
    wanted = _spec(study.reference)
    if wanted.get("seed") is None:
        return []
    added = []
    for members in _grouped(_entry(cell) for cell in cells if generates(cell)):
        if not _applies(members, wanted) or any(e["seed"] == wanted["seed"] for e in members):
            continue
        like = _choose(members, wanted | {"seed": None})["cell"]
        steps = _unseeded(study, like)
        if steps is not None:
            own = tuple(seeded(m, wanted["seed"]) for m in steps)
            if own != like.modifications:
                new = {"modifications": own, "seed": wanted["seed"], "tasks": (TASK,), "curve": False}
                added.append(dataclasses.replace(like, **new))
    return added


def reference_problems(study: Study, cells: Iterable[Cell]) -> list[str]:
    """Return what is wrong with a study's ``reference``: nothing answers, or it names what is not there.

    Args:
        study: with its ``reference``.
        cells: of the study.
    """
    wanted = {name: value for name, value in _spec(study.reference).items() if value is not None}
    answering = [cell for cell in cells if generates(cell) and cell.curve]
    if not answering:
        return [f"reference: nothing is tuned and asked for answers; give a tuned variant and the task {TASK}"]
    members = _grouped(_entry(cell) for cell in answering)
    if "variant" in wanted and wanted["variant"] not in {m[0]["variant"] for m in members}:
        known = sorted({m[0]["variant"] for m in members})
        near = close_match(str(wanted["variant"]), known)
        return [f"reference.variant={wanted['variant']!r}: no tuned variant{near} (there: {', '.join(known)})"]
    mine = [m for m in members if "variant" not in wanted or m[0]["variant"] == wanted["variant"]]
    if "checkpoint" in wanted:
        mine = [m for m in mine if any(_is_checkpoint(e, wanted["checkpoint"]) for e in m)]
        if not mine:
            known = sorted({cell.checkpoint for cell in answering})
            near = close_match(str(wanted["checkpoint"]), known)
            there = f"give a label or its tokens; there: {', '.join(known)}"
            return [f"reference.checkpoint={wanted['checkpoint']!r}: no tuned checkpoint{near} ({there})"]
    problems = [_missing(study, part, wanted) for part in mine]
    return [] if None in problems else [problems[0] or ""]


def _missing(study: Study, members: Sequence[dict[str, Any]], wanted: Mapping[str, Any]) -> str | None:
    """Say why a group has no such reference; None where it has."""
    at = [e for e in members if "checkpoint" not in wanted or _is_checkpoint(e, wanted["checkpoint"])]
    for name, value in _fields(wanted).items():
        values = sorted({e["fields"][name] for e in at if e["fields"].get(name) is not None})
        if value not in values:
            there = ", ".join(map(_short, values)) or "none"
            return f"reference.{name}={_short(value)}: not in the grid (there: {there})"
    if not any(_has(e, _fields(wanted)) for e in at):
        return f"reference: no cell has all of {', '.join(f'{n}={_short(v)}' for n, v in _fields(wanted).items())}"
    like = _choose(members, dict(wanted) | {"seed": None})["cell"]
    if "seed" not in wanted or any(e["seed"] == wanted["seed"] for e in members):
        return None
    steps = _unseeded(study, like)
    if steps is None:
        return f"reference.seed={wanted['seed']}: {like.variant} was tuned elsewhere, with no such seed; leave it out"
    if tuple(seeded(m, wanted["seed"]) for m in steps) == like.modifications:
        return f"reference.seed={wanted['seed']}: the steps of {like.variant} fix their seed; leave it out"
    return None


def _spec(reference: ReferenceChoice | None) -> dict[str, Any]:
    return {} if reference is None else reference.describe()


def _fields(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the modification's fields among what a reference names."""
    own = ("checkpoint", "seed", "variant")
    return {name: value for name, value in wanted.items() if name not in own and value is not None}


def _has(entry: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(entry["fields"].get(name) == value for name, value in fields.items())


def _entry(cell: Cell) -> dict[str, Any]:
    """Return what ``study.json`` says of a cell, as far as choosing a reference goes."""
    base = cell.base or cell.point
    return {
        "checkpoint": cell.checkpoint,
        "family": base.family,
        "run": base.run,
        "tokens": cell.point.tokens,
        "variant": cell.variant,
        "seed": cell.seed,
        "fields": cell.columns(),
        "cell": cell,
    }


def _grouped(entries: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return entries of one family, variant and fine-tuning data together, in their order."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        data = tuple(str(value) for name, value in entry["fields"].items() if re.fullmatch(r"data(_\d+)?", name))
        found.setdefault((entry["family"], entry["variant"], data), []).append(entry)
    return list(found.values())


def _applies(members: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> bool:
    """Say whether the study's ``reference`` is of this group: its variant and its checkpoint are in it."""
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given or given.get("variant", members[0]["variant"]) != members[0]["variant"]:
        return False
    at = [e for e in members if "checkpoint" not in given or _is_checkpoint(e, given["checkpoint"])]
    return any(_has(e, _fields(given)) for e in at)


def _choose(members: Sequence[dict[str, Any]], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry that ``wanted`` names; what it leaves open is the default's."""
    place, seed = wanted.get("checkpoint"), wanted.get("seed")
    own = [e for e in members if not e.get("reference_only") or e["seed"] == seed]
    left = [e for e in own if place is None or _is_checkpoint(e, place)]
    if place is None:
        left = [e for e in left if e["tokens"] == max(x["tokens"] for x in left)]
    left = [e for e in left if e["run"] == left[0]["run"]]
    left = [e for e in left if _has(e, _fields(wanted))]
    chosen = axes_of_columns(())  # of every modification: the columns of a cell say which ones it has
    rates = sorted({rate for e in left if (rate := selected_value(chosen, e["fields"])) is not None})
    if rates:
        middle = rates[(len(rates) - 1) // 2]
        left = [e for e in left if selected_value(chosen, e["fields"]) == middle]
    return next((e for e in left if seed is not None and e["seed"] == seed), left[0])


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_checkpoint(entry: Mapping[str, Any], place: str | int) -> bool:
    return place in (entry["checkpoint"], entry["tokens"]) or str(place) == str(entry["tokens"])


def _unseeded(study: Study, cell: Cell) -> tuple[Any, ...] | None:
    """Return the steps of a cell as the file gives them; None for a checkpoint that was tuned elsewhere."""
    for variant in study.variants:
        if variant.name != cell.variant or cell.base is not None:
            continue
        for steps in variant.grid:
            kept = tuple(m for m in steps if not m.is_neutral())
            if tuple(seeded(m, cell.seed or 0) for m in kept) == cell.modifications:
                return kept
    return None
