"""Fine-tuning data: from ``data=...`` to rendered rows, split and hashed.

Every row is read and checked before anything is returned, so a malformed row stops a run before it trains. The choice of
rows, their order and their split depend only on the data and on `DataSpec`. They never depend on a training seed or a
learning rate, so all runs of a study use the same rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, DataError
from model_wrappers.training.formats import (
    EmptyField,
    Format,
    MalformedRow,
    Message,
    NothingToTrain,
    detect_format,
    get_format,
)
from model_wrappers.training.named import NAMED_SETS
from model_wrappers.training.rows import Source, open_source
from model_wrappers.training.segments import Example, Segment
from model_wrappers.training.templates import check_template, render, template_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

__all__ = [
    "NAMED_SETS",
    "DataSpec",
    "Example",
    "LoadedData",
    "Message",
    "Segment",
    "held_out",
    "load_examples",
    "segments_hash",
]

_MAX_VALIDATION = 1000
_SHOWN = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The rows to train on, and the template that they are written in.

    Attributes:
        data: a named set (`NAMED_SETS`), a local ``.jsonl``, ``.json`` or ``.parquet`` file, a folder with one file per
            split, or a hub id ``ORG/NAME``. If the environment has ``OVERTRAIN_DATA=DIR``, and DIR has a folder for the
            named set or the hub id, rows are read from this folder. A named set takes precedence over a file of the same
            name (write ``./alpaca`` for the file), and a file takes precedence over a hub id.
        data_format: a name of `model_wrappers.training.formats.FORMATS`, or ``auto``. ``auto`` is the named set's format;
            for other data, it is the first format whose fields are in the first row.
        data_split: the split of a folder or a hub data set.
        data_config: the hub data set's configuration, if it has several.
        data_limit: number of usable rows to keep. They are drawn at random and keep the order of the source. None for the
            named set's default (200,000 for ``tulu``, Appendix B.2), or for all rows.
        data_seed: seed of this draw and of the validation split.
        template: a name of `model_wrappers.training.templates.TEMPLATES`, ``chat``, or ``auto``: the template of the named
            set or of the format. The choice of ``auto`` is our assumption, because the paper gives no template.
        validation_fraction: share of the kept rows that is held out, at least 1 row and at most 1,000; 0 for none.

    Raises:
        ConfigError: a number is out of its range.
    """

    data: str
    data_format: str = "auto"
    data_split: str = "train"
    data_config: str | None = None
    data_limit: int | None = None
    data_seed: int = 0
    template: str = "auto"
    validation_fraction: float = 0.02

    def __post_init__(self) -> None:
        if not self.data.strip():
            raise ConfigError(f"data={self.data!r}: give a named set ({', '.join(NAMED_SETS)}), a file or a hub id")
        if self.data_limit is not None and self.data_limit < 1:
            raise ConfigError(f"data_limit={self.data_limit}: must be at least 1; leave it out for the default")
        if self.data_seed < 0:
            raise ConfigError(f"data_seed={self.data_seed}: must be at least 0")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction={self.validation_fraction}: must be at least 0 and below 1; give 0 for none"
            )


@dataclass(frozen=True, kw_only=True)
class LoadedData:
    """Rendered rows and their origin.

    Attributes:
        train: rows to train on, in the order of the source.
        validation: held-out rows, in the order of the source; none of them is in ``train``. May be empty.
        template: name of the template that was used.
        template_text: constant texts of the template, to be stored with the results.
        format: name of the format that was used.
        source: the file, folder or data set that was read.
        hash: sha256 of the rendered rows, see `segments_hash`.
        rows_read: number of rows in the source.
        rows_dropped: reason -> number of rows with nothing to train on.
        rows_unused: number of usable rows that ``data_limit`` left out.
        citation: citation of the named set, else None.
    """

    train: list[Example]
    validation: list[Example]
    template: str
    template_text: dict[str, Any]
    format: str
    source: str
    hash: str
    rows_read: int
    rows_dropped: dict[str, int]
    rows_unused: int
    citation: str | None

    def describe(self) -> dict[str, Any]:
        """Return all fields except the rows, and the numbers of rows, as JSON data for the results."""
        kept = {name: value for name, value in vars(self).items() if name not in {"train", "validation"}}
        return kept | {"train_rows": len(self.train), "validation_rows": len(self.validation)}


def load_examples(spec: DataSpec, tokenizer: PreTrainedTokenizerBase | None = None) -> LoadedData:
    """Read, check, render, sub-sample and split the rows of ``spec``.

    Args:
        spec: the rows, their format and their template.
        tokenizer: needed only for ``template=chat``.

    Raises:
        ConfigError: a name is unknown, or the template cannot express the rows.
        DataError: a file is missing or empty, rows are malformed (the message gives file, line and problem of at most five),
            or no row has anything to train on.
    """
    if spec.template != "auto":
        check_template(spec.template, tokenizer)
    if spec.data_format != "auto":
        get_format(spec.data_format)
    source = open_source(spec.data, spec.data_split, spec.data_config)
    form = _format(spec, source)
    template = _template(spec, source, form)
    limit = spec.data_limit or (source.named.limit if source.named else None)
    reading = _Reading(source, form, template, tokenizer)
    examples: Sequence[Example | None] = list(reading.run(keep=limit is None))
    if not examples:
        raise DataError(_nothing_left(source, reading))
    usable = len(examples)
    if limit is not None:  # a second pass over the source, so that only the chosen rows are kept in memory
        chosen = set(random.Random(spec.data_seed).sample(range(usable), min(limit, usable)))  # noqa: S311
        examples = [e for i, e in enumerate(reading.run(keep=chosen)) if i in chosen]
    kept = [e for e in examples if e is not None]
    train, validation = _split(kept, spec)
    _log.info("data=%s: %d rows to train on, %d to validate on", spec.data, len(train), len(validation))
    return LoadedData(
        train=train,
        validation=validation,
        template=template,
        template_text=template_text(template, tokenizer),
        format=form.name,
        source=source.label,
        hash=segments_hash(train, validation),
        rows_read=reading.read,
        rows_dropped=dict(reading.dropped),
        rows_unused=usable - len(kept),
        citation=source.named.citation if source.named else None,
    )


def segments_hash(train: Sequence[Example], validation: Sequence[Example]) -> str:
    """Return the sha256, in hex, of the canonical JSON of the rendered rows.

    The JSON is ``{"train":[ROW,...],"validation":[ROW,...]}``, without spaces and with ASCII characters only. A ROW is a list
    of ``[text,target,special]``. The JSON is hashed row by row, so it is never in memory as a whole.
    """
    digest = hashlib.sha256()
    for head, rows in (('{"train":[', train), ('],"validation":[', validation)):
        digest.update(head.encode())
        for index, row in enumerate(rows):
            parts = [[s.text, s.target, s.special] for s in row.segments]
            digest.update((("," if index else "") + json.dumps(parts, separators=(",", ":"))).encode())
    digest.update(b"]}")
    return digest.hexdigest()


class _Reading:
    """Reads all rows of a source, and counts the rows that were read and dropped."""

    def __init__(self, source: Source, form: Format, template: str, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self.source, self.form, self.template, self.tokenizer = source, form, template, tokenizer
        self.read = 0
        self.dropped: Counter[str] = Counter()

    def run(self, *, keep: bool | set[int]) -> Iterator[Example | None]:
        """Yield each usable row. In place of a row that ``keep`` does not select, yield None.

        Raises:
            DataError: after the last row, if any was malformed.
        """
        self.read, self.dropped = 0, Counter()
        problems: list[str] = []
        malformed = usable = 0
        for row in self.source.rows():
            self.read += 1
            try:
                if row.value is None:
                    raise MalformedRow(row.problem)  # noqa: TRY301
                example = self._example(row.value, row.where)
            except NothingToTrain as error:
                self.dropped[str(error)] += 1
            except EmptyField as error:
                if self.source.published:
                    self.dropped["empty field"] += 1
                    continue
                malformed += 1
                problems += [f"{row.where}: {error}"] if malformed <= _SHOWN else []
            except MalformedRow as error:
                malformed += 1
                problems += [f"{row.where}: {error}"] if malformed <= _SHOWN else []
            else:
                wanted = keep if isinstance(keep, bool) else usable in keep
                usable += 1
                yield example if wanted else None
        if malformed:
            raise DataError(_malformed(self.source, self.form, malformed, problems))

    def _example(self, value: dict[str, object], where: str) -> Example:
        dialogue = self.form.read(value)
        try:
            return render(dialogue, self.template, self.tokenizer)
        except ConfigError as error:
            raise ConfigError(f"{self.source.label}, {where}: {error}") from None


def _format(spec: DataSpec, source: Source) -> Format:
    if spec.data_format != "auto":
        return get_format(spec.data_format)
    if source.named is not None:
        return get_format(source.named.format)
    first = None
    for row in source.rows():
        if row.value is not None:
            return detect_format(row.value, f"{source.label}, {row.where}")
        first = first or row
    if first is None:
        raise DataError(f"{source.label}: holds no row; give a data set that does")
    raise DataError(f"{source.label}, {first.where}: {first.problem}; no row can be read, and nothing was trained")


def _template(spec: DataSpec, source: Source, form: Format) -> str:
    named = source.named
    if form.name == "text" and spec.template not in {"auto", "plain"}:
        raise ConfigError(
            f"template={spec.template!r}: rows of format 'text' have no turns; leave it out or give 'plain'"
        )
    if spec.template != "auto":
        return spec.template
    return named.template if named is not None and named.format == form.name else form.template


def held_out(rows: int, fraction: float) -> int:
    """Return how many of ``rows`` rows are for validation: at least one where there are two, at most 1,000."""
    if not fraction or rows < 2:
        return 0
    return min(max(1, round(fraction * rows)), _MAX_VALIDATION, rows - 1)


def _split(examples: list[Example], spec: DataSpec) -> tuple[list[Example], list[Example]]:
    count = len(examples)
    size = held_out(count, spec.validation_fraction)
    if not size:
        return examples, []
    held = set(random.Random(f"validation {spec.data_seed}").sample(range(count), size))  # noqa: S311
    train = [example for index, example in enumerate(examples) if index not in held]
    return train, [examples[index] for index in sorted(held)]


def _malformed(source: Source, form: Format, count: int, problems: list[str]) -> str:
    more = f"; and {count - len(problems)} more" if count > len(problems) else ""
    rows = "malformed row" if count == 1 else "malformed rows"
    return (
        f"{source.label}: {count} {rows} of format {form.name!r}; nothing was trained. "
        f"{'; '.join(problems)}{more}. Mend or remove them, or give data_format= if the format is another"
    )


def _nothing_left(source: Source, reading: _Reading) -> str:
    if not reading.read:
        return f"{source.label}: holds no row; give a data set that does"
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(reading.dropped.items()))
    return (
        f"{source.label}: none of the {reading.read} rows read has anything to train on ({reasons}); check that "
        f"data_format={reading.form.name} is the format of these rows"
    )
