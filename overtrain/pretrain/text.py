"""Text that every installation has: the docstrings of the standard library and of the dependencies.

`ast` reads the docstrings from source files, so no package is imported. The result depends only on the versions of Python and
of the packages. Every checkpoint contains the sha256 of the text.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SOURCES", "STANDARD_LIBRARY", "Document", "Text", "collect", "held_out"]

STANDARD_LIBRARY = "python"
"""Name of the standard library among the sources; all other sources are packages."""

SOURCES = (
    STANDARD_LIBRARY,
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "sklearn",
    "sympy",
    "networkx",
    "torch",
    "transformers",
)
"""The sources, which are read in this order until there is enough text. All of them are installed with this project."""

_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "_vendor", "__pycache__"})
_TOPICS = "pydoc_data/topics.py"
_HELD_OUT_ONE_IN = 8


@dataclass(frozen=True)
class Document:
    """One docstring or documentation topic.

    Attributes:
        path: path of its file, as ``source/relative/path.py``.
        text: the text, without its common indentation.
    """

    path: str
    text: str


@dataclass(frozen=True)
class Text:
    """The training part and the held-out part of the text. A file is in one part only, and no document occurs twice.

    Attributes:
        train: documents to train on.
        held_out: documents to evaluate on.
        sources: source -> its contribution in bytes (UTF-8).
        sha256: hash of all paths and texts, in order.
    """

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    sources: dict[str, int]
    sha256: str


def collect(minimum_bytes: int, sources: tuple[str, ...] = SOURCES) -> Text:
    """Read ``sources`` in order until there are ``minimum_bytes`` of training text.

    Args:
        minimum_bytes: needed bytes of training text, UTF-8.
        sources: `STANDARD_LIBRARY` and import names of packages. Packages that are not installed are skipped.

    Raises:
        DataError: all sources together have less text.
    """
    seen: set[str] = set()
    halves: tuple[list[Document], list[Document]] = ([], [])
    sizes: dict[str, int] = {}
    digest = hashlib.sha256()
    training = 0
    for source in sources:
        if training >= minimum_bytes:
            break
        size = 0
        for document in _documents(source):
            if document.text in seen:
                continue
            seen.add(document.text)
            encoded = document.text.encode()
            digest.update(f"{document.path}\0{len(encoded)}\0".encode())
            digest.update(encoded)
            size += len(encoded)
            outside = held_out(document.path)
            halves[outside].append(document)
            training += 0 if outside else len(encoded)
        if size:
            sizes[source] = size
    if training < minimum_bytes:
        raise DataError(
            f"the docstrings of {', '.join(sizes) or 'no source'} hold {training:,} bytes of training text and "
            f"{minimum_bytes:,} are needed; install the package with all its dependencies, with their .py files"
        )
    return Text(tuple(halves[False]), tuple(halves[True]), sizes, digest.hexdigest())


def held_out(path: str) -> bool:
    """Return whether the file at ``path`` is held out. One in 8 files is, by a hash of the path.

    >>> held_out("python/json/decoder.py"), held_out("python/json/decoder.py")
    (False, False)
    """
    digest = hashlib.sha256(path.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT_ONE_IN == 0


def _documents(source: str) -> Iterator[Document]:
    root = _root(source)
    if root is None:
        return
    relative = (path.relative_to(root) for path in root.rglob("*.py"))
    for path in sorted(path for path in relative if not _SKIPPED_FOLDERS.intersection(path.parts)):
        try:
            tree = ast.parse((root / path).read_bytes())
        except (OSError, SyntaxError, ValueError):  # the file is unreadable, or is a template instead of Python code
            continue
        texts = _topics(tree) if path.as_posix() == _TOPICS else _docstrings(tree)
        for written in texts:
            text = written.encode("utf-8", "replace").decode()  # replaces lone surrogates, which UTF-8 cannot encode
            yield Document(f"{source}/{path.as_posix()}", text)


def _root(source: str) -> Path | None:
    if source == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    found = importlib.util.find_spec(source)  # does not import the package, because the name has no dots
    places = found.submodule_search_locations if found else None
    return Path(next(iter(places))) if places else None


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and text.strip():
                yield text.strip()


def _topics(tree: ast.Module) -> Iterator[str]:
    """Yield the values of the one dict in ``pydoc_data/topics.py``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value.strip()
