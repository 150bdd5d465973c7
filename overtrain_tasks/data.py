"""Evaluation rows: from the hub, or from a local mirror of it.

Every task reads its rows through `load`. Compute nodes often have no network, so where the environment variable
``OVERTRAIN_DATA`` names a folder, rows come from there and the hub is never asked::

    $OVERTRAIN_DATA/<mirror>/<split>.jsonl      one JSON object per line, UTF-8
    $OVERTRAIN_DATA/<mirror>/<split>.parquet    or the same rows as Parquet

``<mirror>`` is what the task's YAML names in its metadata (``mirror: arc_easy``); the fields are those of the hub's
data set, and fields beyond those that a task reads are kept and do no harm.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, get_dataset_split_names, load_dataset

from model_wrappers.errors import DataError, close_match

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["MIRROR_VARIABLE", "fingerprint", "load", "mirror_root", "read_file", "split_names"]

MIRROR_VARIABLE = "OVERTRAIN_DATA"
_SUFFIXES = (".jsonl", ".parquet")


def mirror_root() -> Path | None:
    """Return the mirror's folder, or None where ``OVERTRAIN_DATA`` is unset and rows come from the hub.

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


def load(
    dataset_path: str | None,
    dataset_name: str | None,
    splits: Sequence[str],
    *,
    mirror: str | None = None,
    fields: Sequence[str] = (),
    first: int | None = None,
) -> dict[str, Dataset]:
    """Read splits of a data set from the mirror if there is one, else from the hub.

    Args:
        dataset_path: the hub's data set, e.g. ``allenai/ai2_arc``.
        dataset_name: its configuration, e.g. ``ARC-Easy``, or None.
        splits: the splits to read.
        mirror: the data set's folder inside the mirror, e.g. ``arc_easy`` or ``mmlu/astronomy``.
        fields: the fields that the task reads; each must be there, and not null, in every row.
        first: read only this many rows, from the start; the hub is then streamed and only what is needed downloaded.

    Returns:
        One data set per split, rows in source order.

    Raises:
        DataError: a folder, split, file or field is missing, a line is not a JSON object, there are no rows, or the
            hub cannot be reached.
    """
    root = mirror_root()
    if root is None:
        return {split: _read_hub(dataset_path, dataset_name, split, fields, first) for split in splits}
    folder = _folder(root, mirror, dataset_path)
    return {split: read_file(_split_file(folder, split), fields, first) for split in splits}


def split_names(dataset_path: str | None, dataset_name: str | None, *, mirror: str | None = None) -> tuple[str, ...]:
    """Return the names of the splits that there are, sorted; from the mirror or the hub as `load` would read them.

    Raises:
        DataError: the mirror has no such folder, or the hub cannot be reached.
    """
    root = mirror_root()
    if root is not None:
        return _mirrored_splits(_folder(root, mirror, dataset_path))
    try:
        return tuple(sorted(get_dataset_split_names(dataset_path, dataset_name)))
    except (OSError, ValueError) as error:
        raise _hub_error(dataset_path, dataset_name, error) from error


def read_file(path: Path, fields: Sequence[str] = (), first: int | None = None) -> Dataset:
    """Read one ``.jsonl`` or ``.parquet`` file.

    Args:
        path: the file.
        fields: fields that every row must have, not null.
        first: read only this many rows.

    Raises:
        DataError: no such file, another suffix, a malformed line (with its number), a missing field, or no rows.
    """
    if path.suffix not in _SUFFIXES:
        raise DataError(f"{path}: must end in .jsonl or .parquet; convert it to one of them")
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a .jsonl or .parquet file")
    dataset = _read_jsonl(path, fields, first) if path.suffix == ".jsonl" else _read_parquet(path, fields, first)
    if not len(dataset):
        raise DataError(f"{path}: no rows; put at least one row into it or remove the file")
    return dataset


def fingerprint(dataset: Dataset, fields: Sequence[str]) -> str:
    """Return the sha256 of the named fields of all rows, in order: equal on the hub and on a faithful mirror."""
    digest = hashlib.sha256()
    for row in dataset.select_columns(list(fields)):
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def _folder(root: Path, mirror: str | None, dataset_path: str | None) -> Path:
    if not mirror:
        raise DataError(
            f"{dataset_path}: the task names no folder of the mirror {root}; add `mirror: NAME` to the metadata of its "
            f"YAML, or unset {MIRROR_VARIABLE} to read from the hub"
        )
    folder = root / mirror
    if not folder.is_dir():
        there = sorted(p.relative_to(root).as_posix() for p in folder.parent.glob("*") if p.is_dir())
        raise DataError(
            f"{folder}: no such folder, {folder.parent} has {_listing(there)}{close_match(mirror, there)}; put "
            f"<split>.jsonl or .parquet of {dataset_path} there, or unset {MIRROR_VARIABLE} to read from the hub"
        )
    return folder


def _mirrored_splits(folder: Path) -> tuple[str, ...]:
    return tuple(sorted({p.stem for p in folder.iterdir() if p.suffix in _SUFFIXES}))


def _split_file(folder: Path, split: str) -> Path:
    found = [path for suffix in _SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder}: has both {found[0].name} and {found[1].name}; remove one of them")
    if not found:
        raise DataError(
            f"{folder / split}: no such split, the folder has {_listing(_mirrored_splits(folder))}; "
            f"add {split}.jsonl or {split}.parquet"
        )
    return found[0]


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20]) or "nothing"
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def _read_jsonl(path: Path, fields: Sequence[str], first: int | None) -> Dataset:
    rows: list[dict[str, Any]] = []
    for place, row in _json_lines(path):
        if len(rows) == first:
            break
        _check_fields(place, row, fields)
        rows.append(row)
    try:
        return Dataset.from_list(rows)
    except (pa.ArrowException, OverflowError):
        pass  # perhaps only a field that the task does not read differs in type from row to row
    try:
        return Dataset.from_list([{name: row[name] for name in fields} for row in rows])
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"{path}: a field changes its type from row to row ({error}); give each field one type"
        ) from error


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:  # also what is not UTF-8
                raise DataError(f"{place}: not JSON ({error}); correct or remove the line") from error
            if not isinstance(row, dict):
                raise DataError(f"{place}: a {type(row).__name__}, must be a JSON object; correct or remove the line")
            yield place, row


def _check_fields(place: str, row: Mapping[str, Any], fields: Sequence[str]) -> None:
    missing = [name for name in fields if row.get(name) is None]
    if missing:
        raise DataError(
            f"{place}: no {', '.join(map(repr, missing))}, the row has {_listing(sorted(row))}; every row needs "
            f"{', '.join(map(repr, fields))}"
        )


def _read_parquet(path: Path, fields: Sequence[str], first: int | None) -> Dataset:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not readable as Parquet ({error}); write the file again") from error
    if first is not None:
        table = table.slice(0, first)
    _check_columns(str(path), table.column_names, fields)
    for name in fields:
        if table.column(name).null_count:
            row = table.column(name).is_null().to_pylist().index(True) + 1
            raise DataError(f"{path}, row {row}: {name!r} is null; correct or remove the row")
    return Dataset(table)


def _check_columns(place: str, columns: Sequence[str], fields: Sequence[str]) -> None:
    missing = [name for name in fields if name not in columns]
    if missing:
        raise DataError(
            f"{place}: no {', '.join(map(repr, missing))}, the columns are {_listing(sorted(columns))}; rename or add"
        )


def _read_hub(
    dataset_path: str | None, dataset_name: str | None, split: str, fields: Sequence[str], first: int | None
) -> Dataset:
    try:
        if first is None:
            dataset = load_dataset(dataset_path, dataset_name, split=split)
        else:
            stream = load_dataset(dataset_path, dataset_name, split=split, streaming=True)
            dataset = Dataset.from_list(list(stream.take(first)))
    except (OSError, ValueError) as error:
        raise _hub_error(dataset_path, dataset_name, error) from error
    _check_columns(f"{dataset_path} ({split})", dataset.column_names, fields)
    return dataset


def _hub_error(dataset_path: str | None, dataset_name: str | None, error: Exception) -> DataError:
    name = f"{dataset_path} ({dataset_name})" if dataset_name else f"{dataset_path}"
    return DataError(
        f"{name}: cannot be read from the hub ({error}); check the network, or set {MIRROR_VARIABLE} to a local mirror "
        "(<name>/<split>.jsonl or .parquet)"
    )
