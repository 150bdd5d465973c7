"""Evaluation rows from the hub, or from a local mirror of the hub (`model_wrappers.mirror`).

Every task reads its rows with `load`. The metadata in the task's YAML gives the name of the folder in the mirror (``mirror:
arc_easy``). Rows in the mirror have the fields of the hub's data set. Additional fields are kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset, get_dataset_split_names, load_dataset

from model_wrappers.errors import DataError, close_match
from model_wrappers.mirror import MIRROR_VARIABLE, SUFFIXES, files_by_split, mirror_root, read_rows, some_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["MIRROR_VARIABLE", "fingerprint", "load", "mirror_root", "read_file", "split_names"]


def load(
    dataset_path: str | None,
    dataset_name: str | None,
    splits: Sequence[str],
    *,
    mirror: str | None = None,
    fields: Sequence[str] = (),
    first: int | None = None,
) -> dict[str, Dataset]:
    """Read splits of a data set, from the mirror if ``OVERTRAIN_DATA`` is set, else from the hub.

    Args:
        dataset_path: the hub's data set, e.g. ``allenai/ai2_arc``.
        dataset_name: its configuration, e.g. ``ARC-Easy``, or None.
        splits: the splits to read.
        mirror: the data set's folder inside the mirror, e.g. ``arc_easy`` or ``mmlu/astronomy``.
        fields: the fields that the task reads; every row must have them, and none may be null.
        first: read only this many rows, from the start. The hub is then streamed, and only these rows are downloaded.

    Returns:
        One data set per split, with rows in the order of the source.

    Raises:
        DataError: a folder, split, file or field is missing, a line is not a JSON object, there are no rows, or the
            hub cannot be reached.
    """
    root = mirror_root()
    if root is None:
        return {split: _read_hub(dataset_path, dataset_name, split, fields, first) for split in splits}
    folder = _folder(root, mirror, dataset_path)
    return {split: _read_files(_split_files(folder, split), fields, first) for split in splits}


def split_names(dataset_path: str | None, dataset_name: str | None, *, mirror: str | None = None) -> tuple[str, ...]:
    """Return the sorted names of all splits, in the mirror or on the hub, wherever `load` would read.

    Raises:
        DataError: the mirror has no such folder, or the hub cannot be reached.
    """
    root = mirror_root()
    if root is not None:
        return tuple(sorted(files_by_split(_folder(root, mirror, dataset_path))))
    try:
        return tuple(sorted(get_dataset_split_names(dataset_path, dataset_name)))
    except (OSError, ValueError) as error:
        raise _hub_error(dataset_path, dataset_name, error) from error


def read_file(path: Path, fields: Sequence[str] = (), first: int | None = None) -> Dataset:
    """Read one ``.jsonl``, ``.parquet`` or ``.json`` file.

    Args:
        path: the file.
        fields: fields that every row must have; none may be null.
        first: read only this many rows.

    Raises:
        DataError: the file is missing, empty or has another suffix, a line is malformed (the message gives its number), or a
            field is missing.
    """
    if path.suffix in SUFFIXES and not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a .jsonl or .parquet file")
    return _read_files([path], fields, first)


def fingerprint(dataset: Dataset, fields: Sequence[str]) -> str:
    """Return the sha256 of the named fields of all rows, in order. It is equal for the hub and a correct mirror."""
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
            f"{folder}: no such folder, {folder.parent} has {some_names(there)}{close_match(mirror, there)}; put "
            f"<split>.jsonl or .parquet of {dataset_path} there, or unset {MIRROR_VARIABLE} to read from the hub"
        )
    return folder


def _split_files(folder: Path, split: str) -> list[Path]:
    there = files_by_split(folder)
    if split not in there:
        raise DataError(
            f"{folder / split}: no such split, the folder has {some_names(sorted(there))}; "
            f"add {split}.jsonl or {split}.parquet"
        )
    return there[split]


def _read_files(paths: Sequence[Path], fields: Sequence[str], first: int | None) -> Dataset:
    """Return the rows of one split. Every row has the ``fields``, and none of them is null."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        for raw in itertools.islice(read_rows(path), None if first is None else first - len(rows)):
            if raw.value is None:
                raise DataError(f"{path}, {raw.where}: {raw.problem}; correct or remove it")
            _check_fields(f"{path}, {raw.where}", raw.value, fields)
            rows.append(raw.value)
    if not rows:
        raise DataError(f"{paths[0]}: no rows; put at least one row into it or remove the file")
    try:
        return Dataset.from_list(rows)
    except (pa.ArrowException, OverflowError):
        pass  # a field changes its type from row to row; perhaps the task does not read this field
    try:
        return Dataset.from_list([{name: row[name] for name in fields} for row in rows])
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"{paths[0]}: a field changes its type from row to row ({error}); give each field one type"
        ) from error


def _check_fields(place: str, row: Mapping[str, Any], fields: Sequence[str]) -> None:
    missing = [name for name in fields if row.get(name) is None]
    if missing:
        how = "null" if all(name in row for name in missing) else "missing"
        raise DataError(
            f"{place}: {', '.join(map(repr, missing))} {how}, the row has {some_names(sorted(row))}; every row needs "
            f"{', '.join(map(repr, fields))}"
        )


def _check_columns(place: str, columns: Sequence[str], fields: Sequence[str]) -> None:
    missing = [name for name in fields if name not in columns]
    if missing:
        raise DataError(
            f"{place}: no {', '.join(map(repr, missing))}, the columns are {some_names(sorted(columns))}; rename or add"
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
