"""One declaration per key: what it refuses, what it puts into an identity, how it describes itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from model_wrappers.errors import ConfigError
from overtrain.common.schema import FileSection, key, keys, sections


@dataclass(frozen=True, kw_only=True)
class Inner(FileSection):
    depth: int = key(1, above=0, doc="how deep")


@dataclass(frozen=True, kw_only=True)
class Outer(FileSection):
    share: float = key(0.5, least=0, most=1, doc="a share", identity="always")
    mode: Literal["a", "b"] = key("a", doc="added later", identity="changed")
    place: str = key("here", name="where", pattern="[a-z]+", allowed="small letters", doc="renamed in the file")
    inner: Inner = key(factory=Inner, doc="a section")
    several: tuple[int, ...] = key((1, 2), least=1, below=10, doc="a list")
    notes: dict[str, Any] = key(factory=dict, doc="a mapping")
    made: int = 3


def test_a_later_key_leaves_identities_alone_until_it_is_used():
    assert Outer().identity() == {"share": 0.5}
    assert Outer(mode="b").identity() == {"share": 0.5, "mode": "b"}
    assert Outer(place="there", inner=Inner(depth=9)).identity() == {"share": 0.5}


def test_keys_are_named_as_in_the_file_and_other_fields_are_none():
    assert list(keys(Outer)) == ["share", "mode", "where", "inner", "several", "notes"]
    assert (keys(Outer)["where"].field, keys(Outer)["notes"].default) == ("place", {})
    described = {"share": 0.5, "mode": "a", "where": "here", "inner": {"depth": 1}, "several": [1, 2], "notes": {}}
    assert Outer().describe() == described


@pytest.mark.parametrize(
    ("name", "refused", "taken", "words"),
    [
        ("share", (-0.1, 1.1, float("nan")), (0, 1, 0.5), "from 0 to 1"),
        ("where", ("Here", "", "a b"), ("here",), "small letters"),
        ("several", (0, 10), (1, 9), "1 or more and less than 10"),
    ],
)
def test_what_is_refused(name, refused, taken, words):
    declared = keys(Outer)[name]
    assert all(declared.refuses(value) for value in refused)
    assert not any(declared.refuses(value) for value in taken)
    assert declared.range == words


def test_an_object_made_in_python_is_checked_in_the_same_words():
    with pytest.raises(ConfigError, match=r"^several=10: must be 1 or more and less than 10$"):
        Outer(several=(1, 10)).check()
    Outer().check()


def test_sections_are_found_in_unions_and_lists():
    assert list(sections(tuple[Outer | Inner, ...])) == [Outer, Inner]
    assert list(sections(Inner | None)) == [Inner]
    assert list(sections(tuple[int, ...])) == []
