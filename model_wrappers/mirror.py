"""Reads files of rows, and finds them in a local mirror of the hub; tasks and training share this reader.

Compute nodes often have no network. If the environment variable ``OVERTRAIN_DATA`` names a folder, data sets are read from
this folder::

    $OVERTRAIN_DATA/<name>/<split>.jsonl              one JSON object per line, UTF-8
    $OVERTRAIN_DATA/<name>/<split>.parquet            or the same rows as Parquet
    $OVERTRAIN_DATA/<name>/<split>-00000-of-00002.*   or several files of one kind

Files are read as a stream, so rows are not kept in memory. A file may be read twice.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from model_wrappers.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MIRROR_VARIABLE", "SUFFIXES", "RawRow", "files_by_split", "mirror_root", "read_rows", "some_names"]

MIRROR_VARIABLE = "OVERTRAIN_DATA"
SUFFIXES = (".jsonl", ".parquet", ".json")
"""Suffixes of files with rows. A ``.json`` file is one array of objects, or JSON lines as on the hub."""

_SHARD = re.compile(r"-\d+-of-\d+$")


class RawRow(NamedTuple):
    """One row as read, before any check of its fields.

    Attributes:
        where: position in the file, counted from 1: ``line 3`` for JSON lines, ``row 3`` for other files.
        value: the row's fields, or None if the row could not be read.
        problem: why the row could not be read.
    """

    where: str
    value: dict[str, object] | None
    problem: str = ""


def mirror_root() -> Path | None:
    """Return the mirror's folder, or None if ``OVERTRAIN_DATA`` is unset and rows come from the hub.

    Raises:
        DataError: the variable names something that is not a folder.
    """
    value = os.environ.get(MIRROR_VARIABLE)
    if not value:
        return None
    root = Path(value).expanduser()
    if not root.is_dir():
        raise DataError(
            f"{MIRROR_VARIABLE}={value}: not a folder; give the folder that holds <name>/<split>.jsonl or .parquet, "
            f"or unset {MIRROR_VARIABLE} to read from the hub"
        )
    return root


def files_by_split(folder: Path) -> dict[str, list[Path]]:
    """Return split -> its files, in order. All files of a split have the same suffix.

    Raises:
        DataError: a split has files with two suffixes, so it is unclear which of them to read.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in SUFFIXES and file.is_file():
            found.setdefault(_SHARD.sub("", file.stem), []).append(file)
    for files in found.values():
        other = next((file for file in files if file.suffix != files[0].suffix), None)
        if other is not None:
            first, second = sorted((files[0].name, other.name))
            raise DataError(f"{folder}: has both {first} and {second}; remove one of them")
    return found


def read_rows(path: Path) -> Iterator[RawRow]:
    """Yield the rows of one file in order. If a row cannot be read, its ``problem`` says why.

    Raises:
        DataError: the file cannot be read at all, or its suffix is none of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: must end in one of {', '.join(SUFFIXES)}; convert or rename the file")
    try:
        yield from _READERS[path.suffix](path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}; give a file that can") from error


def some_names(names: list[str]) -> str:
    """Return names as text for a message, at most twenty of them."""
    shown = ", ".join(names[:20]) or "nothing"
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def _read_json_lines(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, f"line {number}")


def _parse(line: bytes, where: str) -> RawRow:
    try:
        return _as_row(json.loads(line.decode()), where)
    except (ValueError, RecursionError) as error:
        return RawRow(where, None, f"not valid JSON: {error}")


def _as_row(value: object, where: str) -> RawRow:
    if isinstance(value, dict):
        return RawRow(where, value)
    return RawRow(where, None, f"a row must be a JSON object of fields, not {type(value).__name__}")


def _read_json(path: Path) -> Iterator[RawRow]:
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not text.lstrip().startswith(b"["):
        yield from _read_json_lines(path)
        return
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not valid JSON: {error}; mend the file, or write one object per line (.jsonl)"
        ) from error
    del text
    for number, value in enumerate(values, start=1):
        yield _as_row(value, f"row {number}")


def _read_parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield RawRow(f"row {number}", value)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet after row {number}: {error}; mend the file") from error


_READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
    ".json": _read_json,
}
