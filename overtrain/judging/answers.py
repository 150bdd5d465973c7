"""A cell's generated answers on disk. They are read one by one; only their positions are in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model_wrappers.compat import logged_text
from model_wrappers.errors import DataError
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from overtrain.results.store import Store

__all__ = ["Answer", "Answers"]

_FILE = f"samples_{TASK}.jsonl"


class Answer(NamedTuple):
    """One answer: the document's number, the instruction, and what the model wrote, stripped."""

    document: int
    instruction: str
    text: str


class Answers:
    """The answers of one finished cell, by document in ascending order.

    Attributes:
        documents: their numbers, int64.

    Raises:
        StoreError: the file is missing or is not what was written.
        DataError: it holds no answers.
    """

    def __init__(self, store: Store, cell_id: str) -> None:
        self._path = store.folder(cell_id) / _FILE
        places: dict[int, tuple[int, int]] = {}
        start = 0
        for line in store.read(cell_id, _FILE).splitlines(keepends=True):
            if line.strip():
                places.setdefault(self._parse(line).document, (start, len(line)))
            start += len(line)
        if not places:
            raise DataError(f"{self._path} holds no answers; delete {self._path.parent} and run the study again")
        self.documents = np.array(sorted(places), np.int64)
        self._places = np.array([places[d] for d in self.documents.tolist()], np.int64)

    def __len__(self) -> int:
        return len(self.documents)

    def read(self, place: int) -> Answer:
        """Return the ``place``-th answer, read from the disk.

        Raises:
            DataError: the file has changed since it was opened.
        """
        start, size = self._places[place].tolist()
        with self._path.open("rb") as handle:
            handle.seek(start)
            return self._parse(handle.read(size))

    def _parse(self, line: bytes) -> Answer:
        try:
            sample: dict[str, Any] = json.loads(line)
            return Answer(int(sample["doc_id"]), str(sample["doc"]["instruction"]), logged_text(sample).strip())
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self._path} is not what the task writes ({error!r}); delete {self._path.parent} and run the study again"
            ) from error
