"""The task classes of this folder: perplexity of a corpus (hub or mirror), and of any text file.

How the standard errors get into lm-eval's results: lm-eval 0.4.13 has standard errors for the aggregation ``mean`` and for a
fixed list of its own functions, but not for a ratio of sums. It stores the standard error of a metric ``m`` under the key
``m_stderr``. A metric with the *name* ``m_stderr`` is stored under the same key. So each ratio ``m`` is followed by a metric
``m_stderr``, whose aggregation is the closed form in `overtrain_tasks.perplexity.ratio`. Its value replaces lm-eval's "N/A",
and tables and JSON show value and error in their usual places. There are two side effects: the JSON contains a key
``m_stderr_stderr`` ("N/A"), which no table shows; and standard errors are reported even with ``bootstrap_iters=0``.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from model_wrappers.compat import rolling_value
from model_wrappers.compat_tasks import RollingHost
from model_wrappers.errors import ConfigError, DataError
from overtrain_tasks import data
from overtrain_tasks.perplexity import ratio
from overtrain_tasks.task import MirroredTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["TEXT_VARIABLE", "RollingTask", "TextTask"]

TEXT_VARIABLE = "OVERTRAIN_TEXT"
_AGGREGATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "bits_per_byte": (ratio.bits_per_byte, ratio.bits_per_byte_stderr),
    "byte_perplexity": (ratio.perplexity, ratio.perplexity_stderr),
    "nll_per_token": (ratio.nll_per_unit, ratio.nll_per_unit_stderr),
    "token_perplexity": (ratio.perplexity, ratio.perplexity_stderr),
}
_log = logging.getLogger(__name__)


class RollingTask(MirroredTask, RollingHost):
    """Perplexity of the documents of a corpus. Each document is scored completely.

    All metrics are ratios of sums over the corpus, and lower is better. ``bits_per_byte`` and ``byte_perplexity`` are per UTF-8
    byte of the documents. ``nll_per_token`` (nats) and ``token_perplexity`` are per token; they exist only if the LM reports
    how many tokens it scored (its response has an integer attribute ``tokens``).

    In addition to the metadata of `MirroredTask`, the task uses ``documents``: the number of documents to read from the start
    (null: all). Documents without text are dropped; the metadata's ``documents_empty`` is their number.
    """

    OWN_METRICS = tuple(_AGGREGATIONS)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        for name, (value, stderr) in _AGGREGATIONS.items():
            self.add_metric(name, value, higher_is_better=False)
            self.add_metric(f"{name}_stderr", stderr, higher_is_better=None)

    def rows(self, splits: Sequence[str]) -> dict[str, Dataset]:
        """Read the first ``documents`` documents that have text."""
        loaded = data.load(
            self.DATASET_PATH,
            self.DATASET_NAME,
            splits,
            mirror=self.metadata.get("mirror"),
            fields=self.fields,
            first=self._documents(),
        )
        return {split: self._with_text(rows) for split, rows in loaded.items()}

    def process_results(self, doc: Any, results: Sequence[Any]) -> dict[str, tuple[float, int]]:
        """Return (log-likelihood in nats, units) of one document for every metric and its standard error."""
        if self.predicts_only:
            return {}
        response = rolling_value(*results)
        n_bytes = len(self.doc_to_target(doc).encode("utf-8"))
        units = {"bits_per_byte": n_bytes, "byte_perplexity": n_bytes}
        tokens = getattr(response, "tokens", None)
        if tokens is not None:
            units |= {"nll_per_token": tokens, "token_perplexity": tokens}
        pairs = {name: (float(response), number) for name, number in units.items()}
        # Each error follows its value: lm-eval aggregates in this order, and a later entry replaces an earlier one.
        return {key: pair for name, pair in pairs.items() for key in (name, f"{name}_stderr")}

    def _documents(self) -> int | None:
        documents = self.metadata.get("documents")
        if documents is not None and (not isinstance(documents, int) or documents < 1):
            raise ConfigError(
                f"{self.config.task}: documents={documents!r} in the metadata: must be an integer of 1 or more; give "
                "e.g. --metadata '{\"documents\": 5000}'"
            )
        return documents

    def _with_text(self, rows: Dataset) -> Dataset:
        kept = [index for index, text in enumerate(rows["text"]) if text]
        empty = len(rows) - len(kept)
        self.metadata["documents_empty"] = empty
        if not kept:
            raise DataError(f"{self.config.task}: all {empty} documents are empty; give text to score")
        if empty:
            _log.warning("%s: %d documents without text are left out", self.config.task, empty)
        return rows.select(kept) if empty else rows


class TextTask(RollingTask):
    """Perplexity of any text file: ``.jsonl`` or ``.parquet`` with a field ``text``, or ``.txt`` (one document).

    The file is given by ``text_file`` in lm-eval's task metadata (``--metadata '{"text_file": "held_out.jsonl"}'``), or else by
    the environment variable ``OVERTRAIN_TEXT``. A single document has no standard error.
    """

    def rows(self, splits: Sequence[str]) -> dict[str, Dataset]:
        """Read the file. Its rows are used for every split."""
        path = self._path()
        self.metadata.update(text_file=str(path), data_source="file")
        rows = _plain_text(path) if path.suffix == ".txt" else data.read_file(path, self.fields, self._documents())
        return {split: self._with_text(rows) for split in splits}

    def _path(self) -> Path:
        value = self.metadata.get("text_file") or os.environ.get(TEXT_VARIABLE)
        if not value:
            raise ConfigError(
                f"{self.config.task}: no text file given; name a .jsonl, .parquet or .txt file with "
                f'--metadata \'{{"text_file": "PATH"}}\' or {TEXT_VARIABLE}=PATH'
            )
        path = Path(str(value)).expanduser()
        if path.suffix not in (".jsonl", ".parquet", ".txt"):
            raise DataError(f"text_file={value}: must end in .jsonl, .parquet or .txt; rename or convert it")
        if not path.is_file():
            raise DataError(f"text_file={value}: no such file; give the path of an existing one")
        return path


def _plain_text(path: Path) -> Dataset:
    try:
        return Dataset.from_list([{"text": path.read_bytes().decode("utf-8")}])
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error}); convert it") from error
