"""Hashes of JSON data, of files and of tokenizers."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

__all__ = ["canonical", "content_digest", "digest", "tokenizer_sha256"]


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: equal values give equal text.

    >>> canonical({"b": 1.0, "a": ["é"]})
    '{"a":["é"],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 of `canonical`, as hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def content_digest(path: Path) -> str:
    """Return a hash of the contents of a local file or folder; for a name on the hub, return the name itself."""
    place = path.expanduser()
    if not place.exists():
        return str(path)
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return digest([[p.relative_to(place).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()] for p in files])


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of everything that decides how a text becomes tokens.

    The settings that calls leave in a fast tokenizer (truncation, padding) are not included.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content: Any = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    if backend is not None:
        content = {key: value for key, value in content.items() if key not in {"truncation", "padding"}}
    special = {
        name: getattr(tokenizer, name, None)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "add_bos_token", "add_eos_token")
    }
    return digest([type(tokenizer).__name__ if backend is None else "", special, content])
