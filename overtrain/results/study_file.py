"""``study.json`` and ``metrics.json``: the one place that reads, writes, validates and migrates a study's records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole
from overtrain.common.typed_json import from_json, to_json
from overtrain.results.record import MetricRow, StudyRecord, described

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMAT", "read_metrics", "read_study", "write_study"]

FORMAT = 2
"""Of ``study.json``. A file of an earlier format is migrated when it is read; the next sweep writes today's format."""

_NAME = "study.json"
_OF_STUDY = (
    *("name", "description", "tasks", "seeds", "budgets", "select", "reference", "judge", "primary"),
    "plateau_margin",
)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    rows: tuple[MetricRow, ...]


def read_study(root: Path) -> StudyRecord | None:
    """Return the contents of the folder's ``study.json``; None if there is none.

    Raises:
        StoreError: the file is damaged, or was written by a newer version of this package.
    """
    path = root / _NAME
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    written = content.get("format", 1) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(written, int) or isinstance(written, bool) or written < 1:
        raise _damaged(path, ValueError("it is no study of any format"))
    if written > FORMAT:
        raise StoreError(
            f"{path} has format {written}, and this version of lm-eval-overtrain reads formats 1 to {FORMAT}; install the "
            "version that wrote the file, or a newer one"
        )
    try:
        if written != FORMAT:
            return described(from_json(StudyRecord, _of_format_1(content)))
        return from_json(StudyRecord, {name: value for name, value in content.items() if name != "format"})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def write_study(root: Path, record: StudyRecord) -> None:
    """Write ``study.json``.

    Raises:
        StoreError: the file cannot be written.
    """
    content = {"format": FORMAT, **to_json(record)}
    write_whole(root / _NAME, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_metrics(content: bytes) -> tuple[MetricRow, ...]:
    """Return the rows of a cell's ``metrics.json``.

    Raises:
        StoreError: they are not what a sweep writes.
    """
    try:
        return from_json(_Rows, {"rows": json.loads(content)}).rows
    except ValueError as error:
        raise StoreError(
            f"metrics.json is damaged ({error}); delete the cell's folder and run the study again"
        ) from error


def _of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return a ``study.json`` of format 1 in format 2, without what `described` fills in.

    Format 1 had the study's own part under ``study``, the values of a variant's axes alone, and no categories or data sets.
    """
    study = dict(content["study"])
    kept = {name: study[name] for name in _OF_STUDY if study.get(name) is not None}
    if "reference" in kept:
        kept["reference"] = _reference_of_format_1(kept["reference"])
    variants = [{"name": name, "category": "other"} for name in study.get("variants", {})]
    return {**kept, "variants": variants, "cells": content["cells"], "same": content["same"]}


def _reference_of_format_1(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a reference with the modification's fields, of which format 1 knew the learning rate, under ``fields``."""
    own = {name: entry.get(name) for name in ("checkpoint", "seed", "variant")}
    return own | {"fields": {name: value for name, value in entry.items() if name not in own and value is not None}}


def _damaged(path: Path, error: Exception) -> StoreError:
    why = str(error) if isinstance(error, ValueError) else repr(error)
    return StoreError(f"{path} is damaged ({why}); delete it and run the study again (its cells are kept)")
