"""A folder with all that a ladder is trained and evaluated on: tokens, tokenizer and held-out excerpts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import StoreError
from model_wrappers.files import whole_folder
from overtrain.pretrain.text import collect
from overtrain.pretrain.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from overtrain.pretrain.recipe import Recipe
    from overtrain.pretrain.text import Document, Text

__all__ = ["EPOCHS", "MAXIMUM_EPOCHS", "PreparedText", "excerpts", "prepare"]

MAXIMUM_EPOCHS = 4
"""More passes over the text than this are refused: they cost held-out loss, and a curve would show that instead."""

EPOCHS = 3
"""Passes that the largest budget may make when the sources are chosen."""

_BYTES_PER_TOKEN = 2.2  # above what 512 entries reach (1.9), so that one reading of the sources is enough
_SAMPLE_CHARACTERS = 2_000_000
_EXCERPTS = 128
_EXCERPT_CHARACTERS = 600


@dataclass(frozen=True)
class PreparedText:
    """A folder that `prepare` wrote.

    Attributes:
        root: holds ``tokens.npy`` (uint16, documents separated by the end of text), ``tokenizer/``,
            ``held_out.jsonl`` (rows of ``text`` and ``path``) and ``text.json``.
    """

    root: Path

    @property
    def about(self) -> dict[str, Any]:
        """The contents of ``text.json``: sources, bytes, tokens, number of documents, sha256."""
        return json.loads((self.root / "text.json").read_text("utf-8"))

    @property
    def held_out(self) -> Path:
        """The excerpts to evaluate on, one per held-out file."""
        return self.root / "held_out.jsonl"

    @property
    def tokenizer_files(self) -> Path:
        """The folder of the saved tokenizer."""
        return self.root / "tokenizer"

    def tokens(self) -> np.ndarray[Any, np.dtype[np.uint16]]:
        """Return the training text as token ids, shape (tokens,), uint16, mapped and not read."""
        import numpy as np

        return np.load(self.root / "tokens.npy", mmap_mode="r", allow_pickle=False)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.tokenizer_files, local_files_only=True)


def prepare(recipe: Recipe, out: Path) -> PreparedText:
    """Collect the text for ``recipe``, train its tokenizer and encode; a folder that is there already is used as it is.

    Sources are read until the largest budget makes at most `EPOCHS` passes.

    Args:
        recipe: vocabulary, context and largest budget.
        out: the folder to make.

    Raises:
        DataError: there is not enough text.
        StoreError: ``out`` was prepared for another vocabulary or for a smaller budget.
    """
    prepared = PreparedText(out)
    if (out / "text.json").exists():
        about = prepared.about
        if about["vocabulary"] != recipe.vocabulary or recipe.budgets[-1] > MAXIMUM_EPOCHS * about["tokens"]:
            raise StoreError(
                f"{out} holds {about['tokens']:,} tokens of a vocabulary of {about['vocabulary']}, which do not serve "
                f"a budget of {recipe.budgets[-1]:,} and a vocabulary of {recipe.vocabulary}; delete that folder or "
                "give another"
            )
        return prepared
    text = collect(int(recipe.budgets[-1] / EPOCHS * _BYTES_PER_TOKEN))
    with whole_folder(out) as folder:
        _write(text, recipe, folder)
    return prepared


def excerpts(documents: tuple[Document, ...], count: int = _EXCERPTS) -> list[dict[str, str]]:
    """Return the first 600 characters of the documentation of up to ``count`` files, one excerpt per file.

    One per file, because two excerpts of one file are not independent and error bars count documents. Shorter files are
    left out; the others come in the order of a hash of their path, so a subset is a random sample.
    """
    files: dict[str, list[str]] = {}
    for document in documents:
        files.setdefault(document.path, []).append(document.text)
    joined = {path: "\n\n".join(texts) for path, texts in files.items()}
    long = [path for path, text in joined.items() if len(text) >= _EXCERPT_CHARACTERS]
    chosen = sorted(long, key=lambda path: hashlib.sha256(f"excerpt/{path}".encode()).digest())[:count]
    return [{"path": path, "text": joined[path][:_EXCERPT_CHARACTERS]} for path in chosen]


def _write(text: Text, recipe: Recipe, folder: Path) -> None:
    import numpy as np

    tokenizer = train_tokenizer(_sample(text.train), recipe.vocabulary, recipe.context)
    encoded = tokenizer.backend_tokenizer.encode_batch([document.text for document in text.train])
    ends = tokenizer.eos_token_id
    tokens = np.concatenate([np.array([*document.ids, ends], dtype=np.uint16) for document in encoded])
    np.save(folder / "tokens.npy", tokens)
    tokenizer.save_pretrained(folder / "tokenizer")
    rows = excerpts(text.held_out)
    (folder / "held_out.jsonl").write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), "utf-8")
    about = {
        "sha256": text.sha256,
        "sources": text.sources,
        "train_documents": len(text.train),
        "train_bytes": sum(len(document.text.encode()) for document in text.train),
        "tokens": len(tokens),
        "vocabulary": recipe.vocabulary,
        "epochs_of_largest_budget": round(recipe.budgets[-1] / len(tokens), 3),
        "held_out_excerpts": len(rows),
    }
    (folder / "text.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def _sample(documents: tuple[Document, ...]) -> list[str]:
    """Return documents spread evenly over all of them, about 2 MB, to count merges on."""
    every = max(1, sum(len(document.text) for document in documents) // _SAMPLE_CHARACTERS)
    return [document.text for document in documents[::every]]
