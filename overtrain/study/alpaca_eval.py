"""The sections ``select``, ``reference`` and ``judge`` of a study's file: what selects, and AlpacaEval's win rates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import yaml

from model_wrappers.errors import ConfigError, close_match
from overtrain.plan.expand import expand
from overtrain.plan.reference import reference_problems
from overtrain.study.study import Judge, Reference, Select
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overtrain.study.study import Study
    from overtrain.study.yaml_lines import Reader

__all__ = ["check_answers", "read_judge", "read_reference", "read_select"]

_SELECT: dict[str, Literal["cross_fit", "reported"]] = {"alpaca_eval": "cross_fit", "paper": "reported"}
_REFERENCE = ("checkpoint", "learning_rate", "seed", "variant")
_JUDGE = ("url", "model", "orders", "max_missing", "concurrency")


def read_select(reader: Reader, node: yaml.Node | None, tasks: tuple[str, ...]) -> Select:
    """Return what selects the learning rate: ``{metric: ..., task: ...}``, ``alpaca_eval`` or ``paper``."""
    if node is None:
        return Select()
    if isinstance(node, yaml.ScalarNode):
        name = str(node.value)
        if name not in _SELECT:
            near = close_match(name, list(_SELECT))
            reader.problem(
                node,
                f"select={name!r}: must be alpaca_eval, paper, or a mapping such as {{metric: validation_loss}}{near}",
            )
            return Select()
        _asked_for(reader, node, f"select={name}", tasks)
        return Select(metric="win_rate", task=TASK, how=_SELECT[name])
    found = reader.mapping(node, "select", ("metric", "task"), ("metric",))
    select = Select(
        metric=reader.value(found.get("metric"), "select.metric", str, "validation_loss"),
        task=reader.value(found.get("task"), "select.task", str, "training"),
    )
    if select.task == TASK and select.metric == "win_rate":
        reader.problem(
            node,
            "select: by the win rate: give select: alpaca_eval (cross-fitted), or select: paper (biased, as in the paper)",
        )
    return select


def read_reference(reader: Reader, node: yaml.Node | None) -> Reference | None:
    """Return the study's ``reference``; whether there is such a cell is for `check_answers`."""
    if node is None:
        return None
    found = reader.mapping(node, "reference", _REFERENCE)
    return Reference(
        checkpoint=reader.value(found.get("checkpoint"), "reference.checkpoint", int | str | None),
        learning_rate=reader.value(found.get("learning_rate"), "reference.learning_rate", float | None),
        seed=reader.value(found.get("seed"), "reference.seed", int | None),
        variant=reader.value(found.get("variant"), "reference.variant", str | None),
    )


def read_judge(reader: Reader, node: yaml.Node | None, tasks: tuple[str, ...]) -> Judge | None:
    """Return the study's ``judge``. A key for the server stands in the environment (OPENAI_API_KEY), never in a file."""
    if node is None:
        return None
    _asked_for(reader, node, "judge", tasks)
    found = reader.mapping(node, "judge", _JUDGE)
    url = reader.value(found.get("url"), "judge.url", str | None)
    if url is not None and not re.match(r"https?://[^/\s@]+(/|$)", url):
        reader.problem(
            found["url"], f"judge.url={url!r}: must be an address such as http://127.0.0.1:8000/v1, without a password"
        )
    missing = reader.number(found.get("max_missing"), "judge.max_missing", float, -1e-30, Judge.max_missing)
    if missing > 1:
        reader.problem(found["max_missing"], f"judge.max_missing={missing:g}: is a share; must be at most 1")
    return Judge(
        url=url,
        model=reader.value(found.get("model"), "judge.model", str | None),
        orders=reader.value(found.get("orders"), "judge.orders", Literal["both", "one"], Judge.orders),
        max_missing=missing,
        concurrency=reader.number(found.get("concurrency"), "judge.concurrency", int, 0, Judge.concurrency),
    )


def check_answers(reader: Reader, top: Mapping[str, yaml.Node], study: Study) -> None:
    """Note a ``reference`` that no cell is, and cells without a task; only for a file that is right otherwise."""
    if reader.problems or TASK not in study.tasks:
        if not reader.problems and study.reference is not None:
            _asked_for(reader, top["reference"], "reference", study.tasks)
        return
    if study.select.how != "metric" and study.keep_weights == "best":
        reader.problem(
            top["keep_weights"], "keep_weights=best: win rates are known after judging only; give none or all"
        )
    try:
        cells = expand(study)
    except ConfigError as error:
        reader.problem(top["tasks"], str(error))
        return
    if study.reference is not None:
        for problem in reference_problems(study, cells):
            reader.problem(top["reference"], problem)


def _asked_for(reader: Reader, node: yaml.Node, what: str, tasks: tuple[str, ...]) -> None:
    if TASK not in tasks:
        reader.problem(node, f"{what}: nothing generates answers; add {TASK} to tasks")
