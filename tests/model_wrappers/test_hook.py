"""The import hook: what it registers, when it stands aside, and that it stays out of the way."""

from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import entry_points
from pathlib import Path

import lm_eval.models
import pytest
from lm_eval.api.registry import get_model, model_registry

from model_wrappers import _hook

pytestmark = pytest.mark.spine

PTH = Path(_hook.__file__).with_name("lm_eval_overtrain_models.pth")
OURS = {"overtrain_ft", "overtrain_perturb", "overtrain"}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_entry_point_is_registered_and_resolves_to_its_class():
    points = {p.name: p for p in entry_points(group=_hook.GROUP)}
    assert points.keys() >= OURS
    for name in OURS:
        assert get_model(name) is points[name].load()


def test_the_interpreter_starts_without_importing_us():
    loaded = python(
        "import sys; print([m for m in sys.modules if m.startswith(('model_wrappers', 'lm_eval', 'importlib.m'))])"
    )
    assert loaded.split("\n")[0] == "[]"


def test_builtin_models_are_all_still_there():
    assert model_registry.keys() >= lm_eval.models.MODEL_MAPPING.keys()


def test_the_line_never_raises_even_without_the_package(tmp_path):
    """As after an uninstall that left the file: lm_eval.models must import as if nothing were there."""
    line = PTH.read_text().splitlines()[-1]
    hidden = "import sys; sys.modules['model_wrappers'] = None\n"
    out = python(f"{hidden}{line}\nimport lm_eval.models as m; print('hf' in m.MODEL_MAPPING)")
    assert out.split() == ["True"]


def test_it_stands_aside_where_lm_eval_reads_the_group_itself(tmp_path, monkeypatch):
    source = tmp_path / "future_registry.py"
    source.write_text(
        "def discover():\n    from importlib.metadata import entry_points\n    return entry_points(group='lm_eval.models')\n"
    )
    module = types.ModuleType("future_registry")
    module.__file__ = str(source)
    assert _hook._discovers_itself(module)
    from lm_eval.api import registry

    assert not _hook._discovers_itself(registry)


def test_a_name_that_is_taken_is_left_alone(monkeypatch):
    from lm_eval.api import registry

    fresh = registry.Registry("model")
    fresh.register("overtrain_ft", target="somebody.else:Model")
    monkeypatch.setattr(registry, "model_registry", fresh)
    assert set(_hook.register()) == OURS - {"overtrain_ft"}
    assert fresh._objs["overtrain_ft"] == "somebody.else:Model"


@pytest.mark.parametrize(
    ("script", "expected"), [("/bin/lm_eval", True), ("/bin/lm-eval", True), ("my_study.py", False)]
)
def test_one_line_errors_are_for_command_lines_alone(monkeypatch, script, expected):
    monkeypatch.setattr(sys, "argv", [script])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert _hook._is_lm_eval_command() is expected
