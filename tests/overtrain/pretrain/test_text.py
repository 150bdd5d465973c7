"""The text that every installation has."""

from __future__ import annotations

import json

import pytest

from model_wrappers.errors import ConfigError, DataError, StoreError
from overtrain.pretrain import prepared as prepared_module
from overtrain.pretrain.prepared import excerpts, prepare
from overtrain.pretrain.recipe import Recipe
from overtrain.pretrain.text import Document, Text, collect, held_out
from overtrain.pretrain.tokenizer import END_OF_TEXT, train_tokenizer


@pytest.fixture(scope="module")
def text():
    return collect(1_000_000)


def test_standard_library_is_enough_for_a_million_bytes(text):
    assert list(text.sources) == ["python"]
    assert sum(len(document.text.encode()) for document in text.train) >= 1_000_000
    assert any("lambda" in document.text for document in (*text.train, *text.held_out) if "topics" in document.path)


def test_no_file_and_no_document_is_on_both_sides(text):
    train, outside = ({d.path for d in half} for half in (text.train, text.held_out))
    assert train
    assert outside
    assert not train & outside
    texts = [document.text for document in (*text.train, *text.held_out)]
    assert len(texts) == len(set(texts))


def test_one_file_in_eight_is_held_out():
    share = sum(held_out(f"python/{number}.py") for number in range(8000)) / 8000
    assert abs(share - 1 / 8) < 4 * (1 / 8 * 7 / 8 / 8000) ** 0.5


def test_same_text_again_and_another_hash_for_other_text(text):
    first, again, more = (collect(n, sources=("json", "email", "asyncio")) for n in (1_000, 1_000, 100_000))
    assert list(first.sources) == ["json"]
    assert list(more.sources) == ["json", "email", "asyncio"]
    assert first == again
    assert len({first.sha256, more.sha256, text.sha256}) == 3


def test_too_little_text_says_how_much_there_is():
    with pytest.raises(
        DataError, match=r"of json hold [\d,]+ bytes of training text and 1,000,000,000 are needed; install"
    ):
        collect(10**9, sources=("json", "no_such_package_here"))


def test_docstrings_are_read_without_importing(tmp_path, monkeypatch):
    package = tmp_path / "would_explode"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Top."""\nraise SystemExit\nclass A:\n  """A.\n\n     Deep.\n  """\n')
    (package / "broken.py").write_text('"""Lost."""\ndef (:\n')
    (package / "odd.py").write_text('def f():\n  "Half of a pair: \\ud800."\nx = "not a docstring"\n')
    (package / "tests" / "t.py").write_text('"""Left out."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    found = collect(1, sources=("would_explode",))
    documents = {document.text for document in (*found.train, *found.held_out)}
    assert documents == {"Top.", "A.\n\nDeep.", "Half of a pair: ?."}


def test_tokenizer_gives_every_text_back():
    tokenizer = train_tokenizer(["the cat sat on the mat, the cat sat"] * 3, vocabulary=265)
    assert len(tokenizer) == 265
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.convert_tokens_to_ids(END_OF_TEXT) == 0
    for original in ("the cat", "  naïve\n\ttext \U0001f600", ""):
        assert tokenizer.decode(tokenizer(original).input_ids) == original
    assert len(tokenizer("the cat sat").input_ids) < len("the cat sat")


def test_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(ConfigError, match="vocabulary=256: must be 257 or more"):
        train_tokenizer(["text"], vocabulary=256)


def test_one_excerpt_per_long_file():
    documents = (
        Document("a.py", "x" * 400),
        Document("b.py", "y" * 100),
        Document("a.py", "z" * 400),
        Document("c.py", "w" * 700),
    )
    rows = excerpts(documents)
    assert sorted(row["path"] for row in rows) == ["a.py", "c.py"]
    assert {row["path"]: row["text"] for row in rows}["a.py"] == "x" * 400 + "\n\n" + "z" * 198
    assert len(excerpts(documents, count=1)) == 1


def test_prepared_folder_is_used_again_or_refused(tmp_path, monkeypatch):
    documents = tuple(Document(f"{n}.py", f"number {n} and {n * n}. " * 40) for n in range(20))
    monkeypatch.setattr(
        prepared_module, "collect", lambda _: Text(documents[:12], documents[12:], {"python": 9}, "hash")
    )
    recipe = Recipe(budgets=(2048,), vocabulary=300)
    prepared = prepare(recipe, tmp_path / "text")
    tokens, tokenizer = prepared.tokens(), prepared.tokenizer()
    assert tokens.dtype == "uint16"
    assert tokenizer.decode(tokens[:-1]).split(END_OF_TEXT) == [document.text for document in documents[:12]]
    assert prepared.about["tokens"] == len(tokens)
    rows = [json.loads(line) for line in prepared.held_out.read_text("utf-8").splitlines()]
    assert {row["path"] for row in rows} == {document.path for document in documents[12:]}

    monkeypatch.setattr(prepared_module, "collect", lambda _: pytest.fail("collected twice"))
    assert prepare(recipe, tmp_path / "text").about == prepared.about
    with pytest.raises(StoreError, match="delete that folder or give another"):
        prepare(Recipe(budgets=(2048,), vocabulary=400), tmp_path / "text")
