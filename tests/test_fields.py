"""No module names a modification's field, nor compares its name: what others need, the class says (`Modification`).

Outside a modification's own file this test refuses

- a string that is a registered field or modification (docstrings do not count), and
- an attribute ``x.field``,

unless the module, or for attributes a module that it imports, has a class of its own that declares a field of that name: the
training's ``Schedule`` has a ``learning_rate``, a judge has a ``template``. ``seed`` belongs to every modification, so anybody
may know it. A category may share the name of a modification (``finetune``); comparisons with ``.name`` are refused then.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from model_wrappers.modifications.registry import registry

ROOT = Path(__file__).parents[1]
BUILT_IN = {name: cls for name, cls in registry().items() if cls.__module__.startswith("model_wrappers.")}
FIELDS = {field for cls in BUILT_IN.values() for field in cls.fields()} - {"seed"}
NAMES = set(BUILT_IN)
CATEGORIES = {cls.category for cls in BUILT_IN.values()}
OWN = {ROOT / f"{cls.__module__.replace('.', '/')}.py" for cls in BUILT_IN.values()}
MODULES = sorted(p for room in ("model_wrappers", "overtrain", "overtrain_tasks") for p in (ROOT / room).rglob("*.py"))

# The same word for something else.
OTHER_MEANING = {
    "model_wrappers/generation/served.py": {"data"},  # key of an OpenAI-compatible reply
    "model_wrappers/serving/client.py": {"data"},  # likewise
    "model_wrappers/training/trainer.py": {".data", "gradient_checkpointing"},  # torch.utils.data; of TrainingArguments
    "overtrain/plan/expand.py": {"template"},  # key of the task's metadata
    "overtrain_tasks/alpaca_eval/task.py": {"template"},  # likewise
    "overtrain/pretrain/ladder.py": {"epochs"},  # passes of the pre-training over its text
    "overtrain/results/judged.py": {"learning_rate"},  # key of format 1 of scores.json
}


@functools.cache
def tree(path):
    return ast.parse(path.read_text())


@functools.cache
def declared(path):
    """Registered names that the classes of a module give to fields or methods of their own."""
    classes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    members = [node for cls in classes for node in cls.body]
    annotated = {node.target.id for node in members if isinstance(node, ast.AnnAssign)}
    return (annotated | {node.name for node in members if isinstance(node, ast.FunctionDef)}) & FIELDS


def imported(path):
    """Modules of the project that a module imports, modifications' own files excluded."""
    names = {node.module for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) and node.module}
    return [p for name in names if (p := ROOT / f"{name.replace('.', '/')}.py").is_file() and p not in OWN]


def docstrings(path):
    bodies = [node.body for node in ast.walk(tree(path)) if isinstance(getattr(node, "body", None), list)]
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def guesses(path):
    """Return the words of a module that name a field or a modification, with their lines."""
    own = declared(path)
    near = own.union(*(declared(p) for p in imported(path)))
    words, docs = (FIELDS - own) | (NAMES - CATEGORIES), docstrings(path)
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and node.value in words and id(node) not in docs:
            found.append((node.lineno, node.value))
        elif isinstance(node, ast.Attribute) and node.attr in FIELDS - near:
            found.append((node.lineno, f".{node.attr}"))
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            about = any(isinstance(s, ast.Attribute) and s.attr in {"name", "modification"} for s in sides)
            found += [(s.lineno, s.value) for s in sides if about and isinstance(s, ast.Constant) and s.value in NAMES]
    return found


def test_no_module_guesses_a_field_or_a_modification():
    found = {str(p.relative_to(ROOT)): {word for _, word in guesses(p)} for p in MODULES if p not in OWN}
    found = {name: words for name, words in found.items() if words}
    assert found == OTHER_MEANING


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("getattr(m, 'gamma')", ["gamma"]),
        ("row['data'] if m.name == 'finetune' else 0", ["data", "finetune"]),
        ("m.lora_rank", [".lora_rank"]),
        ("kind == 'finetune'", []),
        ("def f():\n    'gamma'", []),
        ("class Own:\n    epochs: int\n\nx.epochs, x['epochs']", []),
        ("from model_wrappers.training.schedule import Schedule\ns.epochs, s['epochs']", ["epochs"]),
        ("from model_wrappers.modifications.gaussian import Gaussian\ng.gamma", [".gamma"]),
    ],
)
def test_what_counts_as_a_guess(tmp_path, text, expected):
    path = tmp_path / "module.py"
    path.write_text(text)
    assert sorted(word for _, word in guesses(path)) == sorted(expected)
