"""Keeps the outcomes of comparisons between scoring by prefixes and lm-eval's own path, under ``OVERTRAIN_CACHE/proofs``.

A comparison takes seconds. Its outcome depends on the model's architecture, configuration and dtype, on the libraries, on the
device and on our own code, but hardly on the weights. So it is made once per set of `circumstances`, and later processes read
the outcome. A failed comparison is kept as well, with its reason. ``overtrain cache proofs --forget`` removes all outcomes. If
the folder cannot be written, every process makes its own comparison.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers import architectures, scoring
from model_wrappers.cache import cache_root
from model_wrappers.compat import lm_eval_version
from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Proof", "circumstances", "forget", "proofs", "recall", "remember"]

_log = logging.getLogger(__name__)
_WITHOUT_EFFECT = ("_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""Keys of a model's configuration that do not change log-likelihoods: its origin; its dtype, which `circumstances` takes from
the model; and whether keys are kept for generation, which training switches off."""

_known: dict[str, Proof] = {}


@dataclasses.dataclass(frozen=True)
class Proof:
    """The outcome of one comparison.

    Attributes:
        reason: the difference in words; None if scores agree.
        made: time of the comparison, ISO 8601.
        about: the `circumstances` of the comparison.
    """

    reason: str | None
    made: str = dataclasses.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    about: dict[str, Any] = dataclasses.field(default_factory=dict)


def circumstances(lm: Any, asked: str, longest: int) -> dict[str, Any] | None:
    """Return everything that the outcome of a comparison depends on, as JSON data; None if it cannot be described.

    Args:
        lm: lm-eval's model.
        asked: ``pairs`` or ``texts``, which are computed differently in the last layer.
        longest: tokens of the longest request. A comparison is valid up to the next power of two, because long requests use
            masks and windows that short requests do not reach.
    """
    import torch

    model = lm.model
    if any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.modules()):
        return None  # hooks are foreign code, which cannot be described
    configuration = {k: v for k, v in model.config.to_dict().items() if k not in _WITHOUT_EFFECT}
    shapes = [(name, [*tensor.shape], str(tensor.dtype)) for name, tensor in model.state_dict().items()]
    device = torch.device(lm.device)
    return {
        "code": _code(),
        "versions": {"lm_eval": lm_eval_version()}
        | {name: version(name) for name in ("torch", "transformers", "numpy")},
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "configuration": _digest(configuration),
        "tensors": _digest(shapes),
        "dtype": str(model.dtype),
        "softmax_dtype": str(lm.softmax_dtype),
        "mixed_precision_dtype": str(lm.mixed_precision_dtype),
        "attention": str(getattr(model.config, "_attn_implementation", None)),
        "max_length": lm.max_length,
        "device": _device(device),
        "matmul": [torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32],
        "asked": asked,
        "up_to_tokens": 1 << max(longest - 1, 0).bit_length(),
    }


def recall(about: dict[str, Any]) -> Proof | None:
    """Return the outcome for these circumstances, from this process or from the disk; None if there is none."""
    key = _digest(about)
    if key not in _known:
        found = _read(_folder() / f"{key}.json")
        if found is None or found.about != about:
            return None
        _known[key] = found
    return _known[key]


def remember(about: dict[str, Any], reason: str | None) -> None:
    """Keep an outcome for this process and, if the cache can be written, for later processes."""
    key = _digest(about)
    _known[key] = Proof(reason, about=about)
    try:
        write_whole(_folder() / f"{key}.json", json.dumps(dataclasses.asdict(_known[key]), indent=1) + "\n")
    except (StoreError, OSError) as error:
        _log.debug("the comparison is not kept: %s", error)


def proofs() -> list[Proof]:
    """Return every outcome on the disk, the latest last."""
    return sorted((found for _, found in _kept()), key=lambda proof: proof.made)


def forget() -> int:
    """Remove every outcome from the disk; return their number.

    Raises:
        OSError: the folder cannot be written.
    """
    _known.clear()
    paths = [path for path, _ in _kept()]
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _kept() -> Iterator[tuple[Path, Proof]]:
    for path in sorted(_folder().glob("*.json")):
        found = _read(path)
        if found is not None:
            yield path, found


def _folder() -> Path:
    return cache_root() / "proofs"


def _read(path: Path) -> Proof | None:
    """Return the outcome in a file; None if the file is missing or has other contents."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        proof = Proof(**found)
    except (OSError, ValueError, TypeError):
        return None
    sound = isinstance(proof.reason, str | None) and isinstance(proof.made, str) and isinstance(proof.about, dict)
    return proof if sound else None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@functools.cache
def _code() -> str:
    """Return a digest of the code that scores by prefixes, so that a changed code is compared again."""
    found = hashlib.sha256()
    for package in (architectures, scoring):
        for path in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:32]


def _device(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
