"""Gaussian noise on every weight, scaled by the weight's deviation at initialisation."""

from __future__ import annotations

import contextlib
import hashlib
import math
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from model_wrappers.errors import ConfigError
from model_wrappers.modifications.base import Axis, Modification, Modified, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from model_wrappers.checkpoints.checkpoint import Checkpoint

__all__ = ["Draws", "Gaussian", "standard_normal"]


class Draws:
    """Keeps the draws of `standard_normal`: the noise scales of a study share seeds, and drawing costs more than adding.

    Args:
        most: largest number of bytes to keep. Draws beyond this limit are drawn again each time.
    """

    def __init__(self, most: int = 10**9) -> None:
        self._most = most
        self._kept: dict[tuple[int, str], torch.Tensor] = {}

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let `Gaussian.apply` use these draws inside the block."""
        held = _draws.set(self)
        try:
            yield
        finally:
            _draws.reset(held)

    def get(self, seed: int, name: str, shape: torch.Size) -> torch.Tensor | None:
        """Return the draw of ``seed`` for the parameter ``name``, which must not be changed; None if it is not kept."""
        kept = self._kept.get((seed, name))
        if kept is None or kept.shape != shape:
            if kept is not None:  # another model: the draws for the last model are not needed any more
                self._kept.clear()
            if 4 * shape.numel() > self._most - sum(4 * z.numel() for z in self._kept.values()):
                return None
            kept = self._kept[seed, name] = standard_normal(seed, name, shape)
        return kept


_CACHED = 2**16
"""How many numbers are processed at a time: together with their squares in float64, 768 KiB, which fits a CPU's cache."""

_draws: ContextVar[Draws | None] = ContextVar("overtrain_draws", default=None)


@dataclass(frozen=True, kw_only=True)
class Gaussian(Modification):
    """theta + gamma * sigma_0 * z with z ~ N(0, I) and sigma_0 each parameter's deviation **at initialisation**.

    Each parameter tensor gets one draw, from a generator that is seeded by (seed, parameter name). The draw is float32 and
    made on the CPU, for every device and dtype of the model; the sum is computed in float32 and rounded once. So one seed
    gives the same noise to a bfloat16 model on a GPU and to a float32 model on a laptop. Tied embeddings are one parameter and
    get one draw. Norm gains, biases and other parameters that were initialised to a constant have sigma_0 = 0 and do not
    change.

    Source: Springer et al. 2025, equation 1 and Appendix C.2.
    Deviation: none. The authors' later code scales by the current norm. That scale grows with pre-training, so it is a
    different quantity.
    """

    name: ClassVar[str] = "gaussian"
    source: ClassVar[str] = "Overtrained Language Models Are Harder to Fine-Tune, equation 1 and Appendix C.2"
    category: ClassVar[str] = "noise"
    neutral: ClassVar[dict[str, object]] = {"gamma": 0.0}
    preferred: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("distance",)
    axes: ClassVar[tuple[Axis, ...]] = (Axis("gamma", "noise scale", "initial standard deviations", scale="log"),)

    gamma: float = field(doc="noise scale in units of the initial standard deviation, >= 0")
    init_std: str = field(
        "auto",
        doc="where the initial deviations come from: auto, recorded, step0:REVISION, family:NAME, or a number",
    )

    def check(self) -> None:
        if self.gamma < 0:
            raise ConfigError(f"gamma={self.gamma}: must be 0 or more; 0 leaves the weights as they are")

    @classmethod
    def shared(cls) -> Draws:
        return Draws()

    def other_checkpoints(self, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
        from model_wrappers.checkpoints.initial_std import step0_checkpoint

        kind, _, revision = self.init_std.strip().partition(":")
        return (step0_checkpoint(revision, checkpoint),) if kind == "step0" and revision else ()

    def problems(self, checkpoint: Checkpoint | None) -> list[str]:
        from model_wrappers.checkpoints.initial_std import initial_std_problem

        problem = initial_std_problem(self.init_std, checkpoint)
        return [*super().problems(checkpoint), *([problem] if problem else [])]

    def identity(
        self,
        checkpoint: Checkpoint,
        tokenizer: PreTrainedTokenizerBase,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        described = super().identity(checkpoint, tokenizer, content)
        beside = checkpoint.side_file("init_std.json") if self.init_std in {"auto", "recorded"} else None
        if beside is not None:
            described["init_std_sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
        return described

    def apply(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,  # noqa: ARG002
        checkpoint: Checkpoint,
        *,
        work: Path | None = None,  # noqa: ARG002
    ) -> Modified:
        if self.gamma == 0:
            return Modified(model, {"distance": 0.0})
        import torch

        from model_wrappers.checkpoints.initial_std import resolve_initial_std

        initial = resolve_initial_std(self.init_std, model, checkpoint)
        squared, draws = 0.0, _draws.get()
        scales = {name: self.gamma * initial.std[name] for name, _ in model.named_parameters()}
        # New memory for every tensor would cost as much as the arithmetic, so all draws that are not kept share one buffer.
        largest = max((p.numel() for name, p in model.named_parameters() if scales[name]), default=0)
        drawn = torch.empty(largest, dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if scales[name] == 0:
                    continue
                normal = draws.get(self.seed, name, parameter.shape) if draws is not None else None
                if normal is None:
                    normal = standard_normal(self.seed, name, parameter.shape, out=drawn)
                squared += _add(parameter, normal, scales[name])
        record = {"init_std_source": initial.source, "init_std_cited": initial.cited}
        return Modified(model, {"distance": math.sqrt(squared)}, record)


def _add(parameter: torch.Tensor, normal: torch.Tensor, scale: float) -> float:
    """Add the noise ``scale * normal`` to ``parameter``; return the squared norm of the noise.

    On a CPU, the tensors are processed in pieces that fit into the CPU's cache.
    """
    import torch

    parameter, normal = torch.atleast_1d(parameter), torch.atleast_1d(normal)
    rows = len(parameter)
    if parameter.device.type == "cpu":
        rows = max(_CACHED * rows // max(parameter.numel(), 1), 1)
    squared = 0.0
    for part, drawn in zip(parameter.split(rows), normal.split(rows), strict=True):
        noise = drawn * scale
        squared += float(noise.double().square_().sum())
        noise += part.to("cpu", torch.float32)
        part.copy_(noise)
    return squared


def standard_normal(seed: int, name: str, shape: torch.Size, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return z ~ N(0, I) of ``shape``, float32 on the CPU. It depends only on ``seed`` and the parameter's ``name``.

    Args:
        seed: seed of the noise.
        name: name of the parameter.
        shape: shape of the parameter.
        out: flat float32 tensor on the CPU with at least as many numbers as ``shape``. If given, the draw is written to its
            beginning, and the result is a view of it.
    """
    import torch

    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    drawn = torch.empty(shape, dtype=torch.float32) if out is None else out[: shape.numel()].view(shape)
    return torch.randn(shape, generator=generator, dtype=torch.float32, out=drawn)
