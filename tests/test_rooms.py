"""Imports go down the list of rooms, never up, and in no circle; those for type checkers count too."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "": "overtrain overtrain_tasks model_wrappers",
    "overtrain": "__main__ testing cli report judging forecast run results plan study analysis theory pretrain common",
    "overtrain_tasks": "alpaca_eval vlm classification perplexity generalist task fewshot templates data",
    "model_wrappers": "__main__ lm vlm recipe arguments generation serving scoring materialise identity modifications training "
    "architectures checkpoints cache mirror files",
}
"""Package -> its rooms (folders or modules) from the top down; what is not listed lies below them all."""


def imports() -> dict[str, set[str]]:
    """Return module -> modules of ours that it imports, wherever in the file."""
    files = [f for package in ROOMS[""].split() for f in (ROOT / package).rglob("*.py")]
    names = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}
    found: dict[str, set[str]] = {}
    for name, file in names.items():
        found[name] = set()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {a.name for a in node.names} & names.keys()
            elif isinstance(node, ast.ImportFrom):
                inside = {f"{node.module}.{a.name}" for a in node.names} & names.keys()
                found[name] |= inside or {str(node.module)} & names.keys()
    return found


@pytest.mark.parametrize("package", ROOMS)
def test_imports_go_down(package):
    order = {room: place for place, room in enumerate(ROOMS[package].split())}
    depth = package.count(".") + bool(package)

    def floor(module):
        return order.get(module.split(".")[depth] if module.count(".") >= depth else "", len(order))

    inside = {m: to for m, to in imports().items() if not package or m.startswith(f"{package}.")}
    up = [
        f"{m} -> {t}" for m, to in inside.items() for t in to
        if (not package or t.startswith(f"{package}.")) and floor(t) < floor(m)
    ]  # fmt: skip
    assert not up, "\n".join(sorted(up))


def test_no_circle():
    graphlib.TopologicalSorter({m: to - {m} for m, to in imports().items()}).prepare()
