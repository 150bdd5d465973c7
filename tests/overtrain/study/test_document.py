"""docs/study-file.md says what the declarations say, and its examples load."""

from __future__ import annotations

from pathlib import Path

import pytest

from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.study.document import document, examples

PAGE = Path(__file__).parents[3] / "docs" / "study-file.md"
EXAMPLES = examples()


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == document(), "docs/study-file.md is stale; run: python -m overtrain.study.document"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_page_loads(name, tmp_path, monkeypatch):
    monkeypatch.delenv("OVERTRAIN_TEXT", raising=False)
    for folder in ("tokens1B", "last"):
        (tmp_path / "checkpoints" / folder).mkdir(parents=True)
    (tmp_path / "first.yaml").write_text(EXAMPLES["Study"])
    file = tmp_path / "study.yaml"
    file.write_text(EXAMPLES[name] if name == "Study" else f"include: first.yaml\n{EXAMPLES[name]}")
    assert expand(load_study(file))
    assert EXAMPLES[name] in PAGE.read_text("utf-8")


def test_every_section_has_an_example():
    """The page's promise: nobody has to guess how a section is written."""
    text = PAGE.read_text("utf-8")
    titles = [part.partition("\n")[0] for part in text.split("\n## ")[1:]]
    for title in titles:
        if title not in {"Keys", "include"}:
            section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
            assert "```yaml" in section, title
