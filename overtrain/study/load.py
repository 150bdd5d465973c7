"""A study's YAML file: read strictly, with every error at once.

The keys are declared in `overtrain.study.study`, `overtrain.study.settings` and `overtrain.study.forms`; `docs/study-file.md`
lists them. A list is a grid axis, except where the field itself is a list.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.yaml_nodes import child
from overtrain.common.schema import keys
from overtrain.study.checkpoints import checkpoints
from overtrain.study.checks import check_study
from overtrain.study.modifications import read_variants
from overtrain.study.presets import find_preset
from overtrain.study.reader import Reader
from overtrain.study.settings import LADDER_TEXT
from overtrain.study.study import Study
from overtrain.study.yaml_lines import compose

if TYPE_CHECKING:
    from collections.abc import Iterable

    import yaml

__all__ = ["StudyFile", "read_study"]

_OWN = ("checkpoints", "modifications")


@dataclass(frozen=True)
class StudyFile:
    """A study and the lines of its file, for errors that are found later.

    Attributes:
        study: what the file says.
        root: the file as YAML nodes.
    """

    study: Study
    root: yaml.MappingNode

    def refuse(self, problems: Iterable[tuple[str, str]]) -> None:
        """Raise for problems of keys, each with its line.

        Args:
            problems: the key, with dots between its levels, and the message.

        Raises:
            ConfigError: there are problems.
        """
        reader = Reader()
        for name, message in problems:
            reader.problem(child(self.root, *name.split(".")), message)
        reader.finish(self.study.file)


def read_study(file: str | Path) -> StudyFile:
    """Read the study of ``file``: a path, or a preset's name such as ``micro/demo``.

    What depends on the study's cells is checked by `overtrain.plan.load.load_study`, which is the function to call.

    Raises:
        ConfigError: no such file, or everything that is wrong in it, each with its line.
    """
    path = find_preset(file)
    reader = Reader()
    declared = keys(Study)
    root = compose(path, reader, declared["include"])
    required = [name for name, key in declared.items() if key.required]
    top = reader.mapping(root, "study", declared, required)
    values: dict[str, Any] = {"name": "", "tasks": (), "points": (), "file": path}
    for name, node in top.items():
        read = reader.MISSING if name in _OWN else reader.key(node, name, declared[name])
        if read is not reader.MISSING:
            values[declared[name].field] = read
    if "checkpoints" in top:
        forms = reader.key(top["checkpoints"], "checkpoints", declared["checkpoints"])
        found = () if forms is reader.MISSING else forms
        values["points"], values["tuned"] = checkpoints(reader, found)
    if "modifications" in top:
        seeds = values.get("seeds", declared["seeds"].default)
        values["variants"] = read_variants(reader, top["modifications"], seeds, path)
    study = _with_text(Study(**values))
    study = check_study(reader, root, study)
    reader.finish(path)
    return StudyFile(study, root)


def _with_text(study: Study) -> Study:
    """Point ``overtrain_text`` to the ladder's held-out text, or to ``OVERTRAIN_TEXT``, where the file names no text."""
    if "overtrain_text" not in study.tasks or study.evaluation.text_file is not None:
        return study
    given = os.environ.get("OVERTRAIN_TEXT")
    ladder = any(point.ladder for point in study.points)
    text = LADDER_TEXT if ladder else str(Path(given).resolve()) if given else None
    return dataclasses.replace(study, evaluation=dataclasses.replace(study.evaluation, text_file=text))
