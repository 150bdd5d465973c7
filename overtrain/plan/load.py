"""Reads a study's file and checks it without any weights: the file itself, and the cells that it describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError
from overtrain.plan.expand import expand
from overtrain.plan.reference import reference_problems
from overtrain.study.load import read_study
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from overtrain.study.study import Study

__all__ = ["load_study", "refuse"]


def load_study(file: str | Path) -> Study:
    """Read the study of ``file``: a path, or a preset's name such as ``micro/demo``.

    Raises:
        ConfigError: there is no such file, or it has errors; all of them are named, each with its line. The cells are
            checked only when the file itself has no errors.
    """
    read = read_study(file)
    read.refuse(_problems(read.study))
    return read.study


def refuse(study: Study, problems: Iterable[tuple[str, str]]) -> None:
    """Raise for problems that were found in a study after it was read.

    Args:
        study: read from a file, or made in Python.
        problems: the key of the file that a problem concerns, with dots between its levels, and the message.

    Raises:
        ConfigError: there are problems; each is named with the line of the file.
    """
    found = list(dict.fromkeys(problems))
    if not found:
        return
    try:
        read = read_study(study.file)
    except ConfigError:  # made in Python, or the file is another one by now
        raise ConfigError("\n".join(text for _, text in found)) from None
    read.refuse(found)


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
