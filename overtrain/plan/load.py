"""Reads a study's file and checks it without any weights: the file itself, and the cells that it describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError
from overtrain.plan.expand import expand
from overtrain.plan.reference import reference_problems
from overtrain.study.load import read_study
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from overtrain.study.study import Study

__all__ = ["load_study"]


def load_study(file: str | Path) -> Study:
    """Read the study of ``file``: a path, or a preset's name such as ``micro/demo``.

    Raises:
        ConfigError: there is no such file, or it has errors; all of them are named, each with its line. The cells are
            checked only when the file itself has no errors.
    """
    read = read_study(file)
    read.refuse(_problems(read.study))
    return read.study


def _problems(study: Study) -> Iterator[tuple[str, str]]:
    """Yield the key and the message of everything that is wrong with the study's cells."""
    if TASK not in study.tasks:
        return
    try:
        cells = expand(study)
    except ConfigError as error:
        yield "tasks", str(error)
        return
    if study.reference is not None:
        for problem in reference_problems(study, cells):
            yield "reference", problem
