"""docs/paper.md against the presets, and against what the paper's text numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from overtrain.study.presets import preset_names

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "paper.md").read_text("utf-8")
TEXT = ROOT.parent / "shared" / "paper" / "overtrained-language-models.txt"
NUMBERED = r"(?:Table|Figure|Theorem|Definition|Proposition|Lemma) (?:[A-Z]\.)?\d+(?:\.\d+)?"
THEOREMS = ("4.1", "4.4", "4.6", "4.7", "A.1", "A.3", "A.24", "A.25")


def named(label: str) -> bool:
    return re.search(rf"{re.escape(label)}(?![\d])(?!\.\d)", PAGE) is not None


def test_every_preset_of_the_paper_is_named_and_every_named_preset_exists():
    known = set(preset_names())
    mentioned = set(re.findall(r"`((?:paper|micro)/\w+)`", PAGE))
    assert mentioned <= known
    assert {name for name in known if name.startswith("paper/")} <= mentioned


def test_every_part_that_the_page_names_exists():
    parts = set(re.findall(r"`(_parts/[\w.]+)`", PAGE))
    there = {f"_parts/{file.name}" for file in (ROOT / "configs" / "paper" / "_parts").iterdir()}
    assert parts == {p for p in parts if p in there}
    assert {p for p in there if p.endswith("_checkpoints.yaml")} <= parts


@pytest.mark.parametrize(("kind", "numbers"), [("Table", range(1, 7)), ("Figure", range(1, 66)), ("Theorem", THEOREMS)])
def test_everything_that_the_paper_numbers_has_its_place(kind, numbers):
    assert [number for number in numbers if not named(f"{kind} {number}")] == []


def test_what_the_text_numbers_is_what_the_page_names():
    """The list above is complete; needs the paper's text, which is not part of the repository."""
    if not TEXT.is_file():
        pytest.skip("the paper's text does not lie beside the checkout (../shared/paper)")
    text = re.sub(r"\s+", " ", TEXT.read_text("utf-8"))
    numbered = set(re.findall(NUMBERED, text)) - {"Theorem 1"}  # of Gidel et al.
    known = {label for label in numbered if label.split()[0] in {"Table", "Figure", "Theorem"}}
    assert known == {
        *(f"Table {n}" for n in range(1, 7)),
        *(f"Figure {n}" for n in range(1, 66)),
        *(f"Theorem {n}" for n in THEOREMS),
    }
    inside = {f"Lemma A.{n}" for n in range(7, 24)}  # named as a range
    assert {label for label in numbered - inside if not named(label)} == set()


def test_each_row_says_how_far_it_is():
    """Every row of a table whose last column is "how far" uses one of the page's four words."""
    rows, judged = PAGE.splitlines(), 0
    for place, line in enumerate(rows):
        if not line.startswith("|") or not line.endswith("| how far |") or "means" in line:
            continue
        for row in rows[place + 2 :]:
            if not row.startswith("|"):
                break
            last = row.strip("|").split("|")[-1]
            judged += 1
            assert re.search(r"\b(laptop|preset|not yet|context|see there)\b", last), row
    assert judged > 40
