"""Where rows come from: a named set, a local file or folder, or the hub, and a local mirror in place of the hub.

Files are read as a stream and may be read twice; nothing here keeps rows. Hub data sets run no code of their own:
`datasets` has refused loading scripts since version 4.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from model_wrappers.errors import ConfigError, DataError, close_match
from model_wrappers.training.named import NAMED_SETS, NamedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MIRROR_VARIABLE", "Row", "Source", "missing", "open_source"]

MIRROR_VARIABLE = "OVERTRAIN_DATA"
_SUFFIXES = (".jsonl", ".parquet", ".json")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHARD = re.compile(r"-\d+-of-\d+$")
_log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One row as read, before any format.

    Attributes:
        where: ``line 3`` of JSON lines, ``row 3`` of anything else; counted from 1, after the file's name if there are
            several files.
        value: the row's fields, or None where it could not be read.
        problem: why it could not be read.
    """

    where: str
    value: dict[str, object] | None
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """Rows that can be read again and again.

    Attributes:
        label: what was read, for messages and results: a path, or ``hub:ORG/NAME`` with configuration and split.
        published: True where the rows are somebody else's (a named set, the hub), so that a blank field in them is
            dropped and counted instead of refused.
        named: the entry of `NAMED_SETS` that was asked for, if one was.
        rows: returns the rows in source order.
    """

    label: str
    published: bool
    named: NamedSet | None
    rows: Callable[[], Iterator[Row]]


def missing(data: str) -> str | None:
    """Return the message for a ``data`` that names a file or folder that is not there, else None."""
    path = Path(data).expanduser()
    written_as_path = path.suffix in _SUFFIXES or data.startswith((".", "/", "~")) or data.count("/") > 1
    if data in NAMED_SETS or not written_as_path or path.exists():
        return None
    return f"data={data!r}: no such file or folder; give a path that exists, seen from {Path.cwd()}"


def open_source(data: str, split: str, config: str | None) -> Source:
    """Find the data set that ``data`` means; see `model_wrappers.training.data.DataSpec`.

    Raises:
        ConfigError: no such name, split or kind of file, or a mirror folder that does not exist.
        DataError: no such file, or the hub does not give the data set.
    """
    named = NAMED_SETS.get(data)
    path = Path(data).expanduser()
    if named is None and path.exists():
        return _local(path, split, published=False, named=None)
    hub = named.hub if named else data
    config = config or (named.config if named else None)
    absent = missing(data)
    if absent is not None:
        raise DataError(absent)
    if not _HUB_ID.fullmatch(hub):
        raise ConfigError(
            f"data={data!r}: unknown data set{close_match(data, NAMED_SETS)} (named sets: {', '.join(NAMED_SETS)}; or "
            "a .jsonl, .json or .parquet file, a folder of them, or a hub id ORG/NAME)"
        )
    mirror = _mirror(hub, config)
    if mirror is not None:
        _log.info("data=%s: reading the local mirror %s (%s)", data, mirror, MIRROR_VARIABLE)
        return _local(mirror, split, published=True, named=named)
    return Source(" ".join(filter(None, (f"hub:{hub}", config, split))), True, named, _hub(hub, config, split))


def _mirror(hub: str, config: str | None) -> Path | None:
    root = os.environ.get(MIRROR_VARIABLE)
    if not root:
        return None
    if not Path(root).expanduser().is_dir():
        raise ConfigError(f"{MIRROR_VARIABLE}={root!r}: no such folder; give the mirror's folder or unset the variable")
    names = [entry.mirror for entry in NAMED_SETS.values() if entry.hub == hub] + [hub, hub.split("/")[1]]
    candidates = [Path(root).expanduser() / name for name in names]
    if config:
        candidates = [folder / config for folder in candidates] + candidates
    return next((folder for folder in candidates if folder.is_dir()), None)


def _local(path: Path, split: str, *, published: bool, named: NamedSet | None) -> Source:
    files = _split_files(path, split) if path.is_dir() else [path]
    for file in files:
        if file.suffix not in _SUFFIXES:
            raise ConfigError(
                f"data={str(file)!r}: must end in one of {', '.join(_SUFFIXES)}; convert or rename the file"
            )
    label = str(files[0]) if len(files) == 1 else f"{path} ({len(files)} files of one split)"

    def rows() -> Iterator[Row]:
        for file in files:
            try:
                for row in _READERS[file.suffix](file):
                    yield row if len(files) == 1 else row._replace(where=f"{file.name}, {row.where}")
            except OSError as error:
                raise DataError(f"{file}: cannot be read: {error}; give a file that can") from error

    return Source(label, published, named, rows)


def _split_files(folder: Path, split: str) -> list[Path]:
    """Return the files of ``split``, or of the only split there is, in one kind of file."""
    splits: dict[str, dict[str, list[Path]]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in _SUFFIXES and file.is_file():
            splits.setdefault(_SHARD.sub("", file.stem), {}).setdefault(file.suffix, []).append(file)
    if split not in splits:
        if len(splits) != 1:
            raise ConfigError(
                f"data_split={split!r}: not in {folder} (splits there: {', '.join(splits) or 'none'}); "
                f"give data_split= one of them, or the file itself as data="
            )
        (only,) = splits
        _log.warning("%s has no split %r: reading its only split, %r", folder, split, only)
        split = only
    kinds = splits[split]
    return next(kinds[suffix] for suffix in _SUFFIXES if suffix in kinds)


def _read_json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, f"line {number}")


def _parse(line: bytes, where: str) -> Row:
    try:
        return _as_row(json.loads(line.decode()), where)
    except (ValueError, RecursionError) as error:
        return Row(where, None, f"not valid JSON: {error}")


def _as_row(value: object, where: str) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    return Row(where, None, f"a row must be a JSON object of fields, not {type(value).__name__}")


def _read_json(path: Path) -> Iterator[Row]:
    """Read a JSON array of objects; a file that does not begin with ``[`` holds JSON lines, as on the hub."""
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


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", value)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet after row {number}: {error}; mend the file") from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
    ".json": _read_json,
}


def _hub(hub: str, config: str | None, split: str) -> Callable[[], Iterator[Row]]:
    import datasets

    try:
        loaded = datasets.load_dataset(hub, config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data={hub!r} (data_config={config}, data_split={split!r}) cannot be loaded from the hub: {error}; check "
            f"the names and the network, or point {MIRROR_VARIABLE} at a local copy"
        ) from error

    def rows() -> Iterator[Row]:
        for number, value in enumerate(loaded, start=1):
            yield Row(f"row {number}", value)

    return rows
