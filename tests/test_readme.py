"""The README says what is true: its commands parse, its table names every model, task and modification there is."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import simple_parse_args_string

import model_wrappers.lm
from model_wrappers._hook import GROUP
from model_wrappers.arguments import split_arguments
from model_wrappers.modifications.registry import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [c for block in BLOCKS for c in block.replace("\\\n", " ").splitlines() if c.strip()]


def test_the_two_commands_are_on_the_first_screen():
    first = README.splitlines()[:20]
    assert "pip install -e . && overtrain demo" in first
    assert "pip install -e '.[test]' && pytest" in first


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--model_args" in c], ids=lambda c: c.split()[2])
def test_every_lm_eval_command_has_arguments_that_we_accept(command, monkeypatch):
    words = shlex.split(command)
    model = words[words.index("--model") + 1]
    given = simple_parse_args_string(words[words.index("--model_args") + 1])
    kind = getattr(model_wrappers.lm, entry_points(group=GROUP)[model].attr)._choose(given)
    checkpoint, fields, rest = split_arguments(given, kind, HFLM)
    assert kind.parse(fields)
    assert checkpoint.repo == "allenai/OLMo-1B-hf"
    assert checkpoint.tokens_seen() == 3_094_000_000_000
    assert rest == {}


def test_every_model_and_group_is_in_a_table():
    for name in ("overtrain_ft", "overtrain_perturb", "overtrain", "overtrain_core8", "overtrain_ten", "overtrain_c4"):
        assert f"\n| `{name}` |" in README
    perturbations = [n for n, m in registry().items() if not m.materialise]
    assert all(f"kind={n}" in README or f"`{n}`" in README for n in perturbations)


def test_the_tree_names_files_that_exist():
    tree = README.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    room = Path()
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            room = ROOT / name
        path = ROOT / name if not line.startswith(" ") else room / name.rstrip(",")
        assert list(path.parent.glob(path.name)), name


def test_files_that_the_readme_shows_are_there():
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_the_table_of_speeds_is_that_of_the_kept_results():
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.chart import with_table
    finally:
        sys.path.remove(str(ROOT))
    assert with_table(README) == README
