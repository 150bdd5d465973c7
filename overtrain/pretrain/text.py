"""Text that every installation has: the documentation inside the standard library and the dependencies.

Docstrings are read from source files by `ast`; nothing is imported. For one installation (Python and the versions of
the packages) the result is always the same, and its sha256 goes into every checkpoint.
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
"""Name of the one source that is no package."""

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
"""What is read, in this order, until there is enough; the packages come with our dependencies."""

_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "_vendor", "__pycache__"})
_TOPICS = "pydoc_data/topics.py"
_HELD_OUT_ONE_IN = 8


@dataclass(frozen=True)
class Document:
    """One docstring or documentation topic.

    Attributes:
        path: ``source/relative/path.py`` of the file that it stands in.
        text: without the common indentation.
    """

    path: str
    text: str


@dataclass(frozen=True)
class Text:
    """The two halves of the text; no file has documents in both, no document occurs twice.

    Attributes:
        train: what is trained on.
        held_out: what is evaluated on.
        sources: name of each source and the bytes (UTF-8) that it contributed.
        sha256: of every path and text, in order.
    """

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    sources: dict[str, int]
    sha256: str


def collect(minimum_bytes: int, sources: tuple[str, ...] = SOURCES) -> Text:
    """Read ``sources`` in order until there are ``minimum_bytes`` of training text.

    Args:
        minimum_bytes: bytes of training text that are needed, UTF-8.
        sources: `STANDARD_LIBRARY` and import names of packages; what is not installed is passed over.

    Raises:
        DataError: every source together has less.
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
    """Say whether the file at ``path`` is held out: one in 8, by a hash of the path alone.

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
        except (OSError, SyntaxError, ValueError):  # unreadable, or a template and not Python
            continue
        texts = _topics(tree) if path.as_posix() == _TOPICS else _docstrings(tree)
        for written in texts:
            text = written.encode("utf-8", "replace").decode()  # a lone surrogate, written as an escape, has no bytes
            yield Document(f"{source}/{path.as_posix()}", text)


def _root(source: str) -> Path | None:
    if source == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    found = importlib.util.find_spec(source)  # a top-level name: finds the package without importing it
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
