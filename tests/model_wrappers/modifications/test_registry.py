"""Modifications of users' own packages: found, and harmless where they are broken."""

from __future__ import annotations

import importlib.util
import sys
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from model_wrappers.arguments import choose
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import ConfigError
from model_wrappers.modifications import registry as module
from model_wrappers.modifications.base import Axis, Modification, Modified, field
from model_wrappers.modifications.registry import GROUP, broken, registry

BUILT_IN = set(registry())


@dataclass(frozen=True, kw_only=True)
class Nothing(Modification):
    name: ClassVar[str] = "nothing"
    source: ClassVar[str] = "https://example.org"
    category: ClassVar[str] = "noise"
    strength: float = field(1.0, doc="does nothing")

    def apply(self, model, tokenizer, checkpoint, *, work=None):
        return Modified(model, {"distance": 0.0})


class Half(Nothing):
    name = "half"
    source = None


class Bare(Nothing):
    name = "bare"
    weakness: float = field(1.0, doc="never becomes a field")


class Unfinished(Modification):
    name, source, category = "unfinished", "https://example.org", "noise"


@pytest.fixture
def install(monkeypatch):
    """Pretend that packages with these modules are installed."""

    def install(**modules):
        points = []
        for name, content in modules.items():
            if content is not None:
                monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**content))
            points.append(EntryPoint(name, name, GROUP))
        monkeypatch.setattr(module, "entry_points", lambda group: points if group == GROUP else [])
        module._found.cache_clear()

    yield install
    module._found.cache_clear()


def test_a_package_s_modification_is_there_beside_the_built_in_ones(install):
    install(mine={"Nothing": Nothing})
    assert registry()["nothing"] is Nothing
    assert set(registry()) == BUILT_IN | {"nothing"}
    assert broken() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "ModuleNotFoundError"),
        ({}, "no Modification subclass"),
        ({"Half": Half}, "Half lacks source"),
        ({"Bare": Bare}, "Bare lacks the decorator"),
        ({"Unfinished": Unfinished}, "Unfinished lacks apply"),
        (
            {"Nothing": type("Taken", (Nothing,), {"name": "gaussian"})},
            "'gaussian' is taken by model_wrappers.modifications",
        ),
    ],
)
def test_a_broken_package_is_one_message_and_breaks_nothing(install, caplog, content, message):
    install(mine=content, theirs={"Nothing": Nothing})
    assert set(registry()) == BUILT_IN | {"nothing"}
    assert registry()["gaussian"].__module__ == "model_wrappers.modifications.gaussian"
    (problem,) = broken()
    assert "package mine" in problem
    assert message in problem
    assert [record.getMessage() for record in caplog.records] == [problem]


def test_of_two_packages_with_one_name_neither_is_used(install):
    """Whichever of them won, somebody's results would be another class's."""
    install(mine={"Nothing": Nothing}, theirs={"Nothing": type("Nothing", (Nothing,), {"name": "nothing"})})
    assert "nothing" not in registry()
    (problem,) = broken()
    assert "packages mine and theirs" in problem
    assert "'nothing'" in problem


@pytest.mark.parametrize("said", [{"neutral": {"nofield": 1.0}}, {"axes": (Axis("nofield", "no field"),)}])
def test_a_class_cannot_speak_of_fields_that_it_lacks(install, said):
    install(mine={"Liar": type("Liar", (Nothing,), {"name": "liar", **said})})
    assert "names nofield, which is no field of it" in broken()[0]


def test_the_code_of_a_package_is_in_the_identity(tmp_path, monkeypatch, make_model):
    checkpoint = Checkpoint(repo=make_model("olmo"))

    def found(code):
        file = tmp_path / "plugged.py"
        file.write_text(code)
        spec = importlib.util.spec_from_file_location("plugged", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "plugged", module)
        spec.loader.exec_module(module)
        return module.Plugged().identity(checkpoint, None)

    code = (
        "from dataclasses import dataclass\nfrom model_wrappers.modifications.base import Modification, Modified\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Plugged(Modification):\n    name = 'plugged'\n"
        "    def apply(self, model, tokenizer, checkpoint, *, work=None):\n        return Modified(model, {})\n"
    )
    assert found(code) == found(code)
    assert found(code) != found(code + "    strength = 2\n")


def test_arguments_that_fit_two_modifications_need_a_kind(install):
    install(mine={"Nothing": Nothing}, theirs={"Twin": type("Twin", (Nothing,), {"name": "twin"})})
    with pytest.raises(ConfigError, match=r"nothing, twin.*kind=NAME"):
        choose({"strength": 1}, lambda m: not m.materialise)
