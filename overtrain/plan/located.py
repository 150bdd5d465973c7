"""A checkpoint of a study, and the facts about it that are computed once: file stamp, tokenizer, hashes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import OvertrainError
from model_wrappers.identity import digest, tokenizer_sha256
from overtrain.plan.stamps import checkpoint_stamp

if TYPE_CHECKING:
    from overtrain.study.study import Point

__all__ = ["LocatedPoint", "checkpoint_of"]


def checkpoint_of(point: Point) -> Checkpoint:
    """Return the checkpoint of a point of the study; nothing is downloaded."""
    repo: str | Path = Path(point.repo) if point.local else point.repo
    return Checkpoint(repo=repo, revision=point.revision, subfolder=point.subfolder, tokens=point.tokens)


class LocatedPoint:
    """A checkpoint, and the facts about it that are computed once."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self._problem: OvertrainError | None = None

    @functools.cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint; this property downloads nothing."""
        return checkpoint_of(self.point)

    @functools.cached_property
    def _verified(self) -> str:
        self.checkpoint.verify()
        self.checkpoint.config()  # what else fails because of it would be blamed on the tokenizer
        return checkpoint_stamp(self.checkpoint)

    @property
    def stamp(self) -> str:
        """The file stamp of the checkpoint. A failure is remembered, so that the hub is asked only once."""
        if self._problem is None:
            try:
                return self._verified
            except OvertrainError as error:
                self._problem = error
        raise self._problem

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer."""
        from transformers import AutoTokenizer

        from model_wrappers.checkpoints.load_errors import loading, refuse_empty

        with loading("tokenizer", self.checkpoint):
            found = AutoTokenizer.from_pretrained(self.checkpoint.location(), **self.checkpoint.load_kwargs())
            refuse_empty(found, self.checkpoint)
        return found

    @functools.cached_property
    def tokenizer_sha256(self) -> str:
        """Hash of the tokenizer, a part of every cell's identity."""
        return tokenizer_sha256(self.tokenizer)

    @functools.cached_property
    def vocabulary(self) -> str:
        """A digest of the tokenizer's files. Checkpoints with equal digests turn training data into equal tokens."""
        names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model")
        files = [self.checkpoint.side_file(name) for name in names]
        return digest([None if file is None else file.read_bytes().hex() for file in files])
