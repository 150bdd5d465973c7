"""The source of training rows: a named set, a local file or folder, the hub, or a local mirror in place of the hub.

Data sets of the hub cannot run code: `datasets` has refused loading scripts since version 4.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError, DataError, close_match
from model_wrappers.files import exists
from model_wrappers.mirror import MIRROR_VARIABLE, SUFFIXES, RawRow, files_by_split, mirror_root, read_rows
from model_wrappers.training.named import NAMED_SETS, NamedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Source", "local_source", "missing", "open_source"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Rows that can be read several times.

    Attributes:
        label: the source in messages and results: a path, or ``hub:ORG/NAME`` with configuration and split.
        published: True for a published data set (a named set, the hub). A row with a blank field is then dropped and counted;
            in a user's own file, it is an error.
        named: the entry of `NAMED_SETS`, if ``data`` is the name of one.
        rows: returns the rows in the order of the source.
    """

    label: str
    published: bool
    named: NamedSet | None
    rows: Callable[[], Iterator[RawRow]]


def missing(data: str) -> str | None:
    """Return an error message if ``data`` is the path of a file or folder that does not exist, else None."""
    path = Path(data)
    written_as_path = path.suffix in SUFFIXES or data.startswith((".", "/", "~")) or data.count("/") > 1
    if data in NAMED_SETS or not written_as_path or exists(path):
        return None
    return f"data={data!r}: no such file or folder; give a path that exists, seen from {Path.cwd()}"


def open_source(data: str, split: str, config: str | None) -> Source:
    """Find the data set that ``data`` names; see `model_wrappers.training.data.DataSpec`.

    Raises:
        ConfigError: there is no such name or split, or the file has another suffix.
        DataError: there is no such file or mirror folder, or the hub does not provide the data set.
    """
    named = NAMED_SETS.get(data)
    path = Path(data).expanduser()
    if named is None and exists(path):
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
    mirror = _mirror(named, hub, config)
    if mirror is not None:
        _log.info("data=%s: reading the local mirror %s (%s)", data, mirror, MIRROR_VARIABLE)
        return _local(mirror, split, published=True, named=named)
    return Source(
        " ".join(filter(None, (f"hub:{hub}", config, named.part if named else None, split))),
        True,
        named,
        _hub(hub, config, split, named.part if named else None),
    )


def local_source(data: str, split: str, config: str | None) -> Source | None:
    """Return the source of rows that lie on this machine, as files or in a mirror of the hub; None for those on the hub.

    Raises:
        ConfigError: as `open_source`.
        DataError: as `open_source`.
    """
    named = NAMED_SETS.get(data)
    hub = named.hub if named else data
    here = named is None and exists(Path(data).expanduser())
    on_the_hub = _HUB_ID.fullmatch(hub) and not missing(data)
    if not here and on_the_hub and _mirror(named, hub, config or (named.config if named else None)) is None:
        return None
    return open_source(data, split, config)


def _mirror(named: NamedSet | None, hub: str, config: str | None) -> Path | None:
    """Return the folder of the data set in the mirror, or None.

    Raises:
        DataError: the mirror has only a part of the data set, which counts as a different data set.
    """
    root = mirror_root()
    if root is None:
        return None
    entries = [named] if named else [entry for entry in NAMED_SETS.values() if entry.hub == hub and not entry.part]
    names = [entry.mirror for entry in entries] + ([] if named and named.part else [hub, hub.split("/")[1]])
    candidates = [root / name for name in names]
    if config:
        candidates = [folder / config for folder in candidates] + candidates
    found = next((folder for folder in candidates if folder.is_dir()), None)
    parts = [e for e in NAMED_SETS.values() if e.hub == hub and e.part and (root / e.mirror).is_dir()]
    if found is None and parts and not (named and named.part):
        raise DataError(
            f"data={named.name if named else hub!r}: the mirror {root} has no {names[0]}, only {parts[0].mirror}, which is the "
            f"part {parts[0].part} of {hub}; give data={parts[0].name} to train on that part, put the whole data set under "
            f"{root / names[0]}, or unset {MIRROR_VARIABLE} to read from the hub"
        )
    return found


def _local(path: Path, split: str, *, published: bool, named: NamedSet | None) -> Source:
    files = _split_files(path, split) if path.is_dir() else [path]
    for file in files:
        if file.suffix not in SUFFIXES:
            raise ConfigError(
                f"data={str(file)!r}: must end in one of {', '.join(SUFFIXES)}; convert or rename the file"
            )
    label = str(files[0]) if len(files) == 1 else f"{path} ({len(files)} files of one split)"

    def rows() -> Iterator[RawRow]:
        for file in files:
            for row in read_rows(file):
                yield row if len(files) == 1 else row._replace(where=f"{file.name}, {row.where}")

    return Source(label, published, named, rows)


def _split_files(folder: Path, split: str) -> list[Path]:
    """Return the files of ``split``. If the folder has only one split, return its files whatever its name."""
    splits = files_by_split(folder)
    if split not in splits:
        if len(splits) != 1:
            raise ConfigError(
                f"data_split={split!r}: not in {folder} (splits there: {', '.join(splits) or 'none'}); "
                f"give data_split= one of them, or the file itself as data="
            )
        (only,) = splits
        _log.warning("%s has no split %r: reading its only split, %r", folder, split, only)
        split = only
    return splits[split]


def _hub(hub: str, config: str | None, split: str, part: str | None) -> Callable[[], Iterator[RawRow]]:
    import datasets

    try:
        loaded = datasets.load_dataset(hub, config, split=split, **({"data_dir": part} if part else {}))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data={hub!r} (data_config={config}, data_split={split!r}) cannot be loaded from the hub: {error}; check "
            f"the names and the network, or point {MIRROR_VARIABLE} at a local copy"
        ) from error

    def rows() -> Iterator[RawRow]:
        for number, value in enumerate(loaded, start=1):
            yield RawRow(f"row {number}", value)

    return rows
