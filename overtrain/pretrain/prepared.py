"""The folder with the text of a ladder: training tokens, tokenizer and held-out excerpts."""

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
"""Largest number of passes over the text. More passes raise the held-out loss, and the curves would show this effect."""

EPOCHS = 3
"""Sources of text are added until the largest budget needs at most this many passes."""

_BYTES_PER_TOKEN = 2.2  # more than a vocabulary of 512 reaches (1.9), so that the collected text is always enough
_SAMPLE_CHARACTERS = 2_000_000
_EXCERPTS = 128
_EXCERPT_CHARACTERS = 600


@dataclass(frozen=True)
class PreparedText:
    """A folder that `prepare` wrote.

    Attributes:
        root: folder with ``tokens.npy`` (uint16, an end-of-text token after each document), ``tokenizer/``,
            ``held_out.jsonl`` (rows with ``text`` and ``path``) and ``text.json``.
    """

    root: Path

    @property
    def about(self) -> dict[str, Any]:
        """The contents of ``text.json``: sources, bytes, tokens, number of documents, sha256."""
        return json.loads((self.root / "text.json").read_text("utf-8"))

    @property
    def held_out(self) -> Path:
        """The file with the held-out excerpts, one excerpt per held-out source file."""
        return self.root / "held_out.jsonl"

    @property
    def tokenizer_files(self) -> Path:
        """The folder of the saved tokenizer."""
        return self.root / "tokenizer"

    def tokens(self) -> np.ndarray[Any, np.dtype[np.uint16]]:
        """Return the training text as token ids, shape (tokens,), uint16, memory-mapped."""
        import numpy as np

        return np.load(self.root / "tokens.npy", mmap_mode="r", allow_pickle=False)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.tokenizer_files, local_files_only=True)


def prepare(recipe: Recipe, out: Path) -> PreparedText:
    """Collect the text for ``recipe``, train its tokenizer and encode the text. An existing folder is used unchanged.

    Sources are read until the largest budget needs at most `EPOCHS` passes.

    Args:
        recipe: gives vocabulary, context and largest budget.
        out: folder to write.

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

    Two excerpts of one file are not independent, and error bars treat documents as independent; so each file gives only one.
    Shorter files are left out. The others are ordered by a hash of their path, so the first ones are a random sample.
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
    """Return every k-th document, about 2 MB in all, as a sample for the tokenizer."""
    every = max(1, sum(len(document.text) for document in documents) // _SAMPLE_CHARACTERS)
    return [document.text for document in documents[::every]]
