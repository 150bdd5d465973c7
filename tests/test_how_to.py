"""The how-to pages show the examples' files as they are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_modification"


def test_the_page_about_own_modifications_shows_every_file_of_the_example():
    page = (ROOT / "docs" / "how-to" / "own-modification.md").read_text()
    shown = set(re.findall(r"```(?:python|toml)\n(.*?)\n```", page, re.DOTALL))
    assert shown == {file.read_text().rstrip() for file in EXAMPLE.iterdir() if file.suffix in {".py", ".toml"}}


def test_page_and_readme_of_the_example_show_the_same_commands():
    texts = (ROOT / "docs" / "how-to" / "own-modification.md").read_text(), (EXAMPLE / "README.md").read_text()
    page, readme = (set(re.findall(r"```(?:bash|yaml)\n(.*?)\n```", text, re.DOTALL)) for text in texts)
    assert page == readme
