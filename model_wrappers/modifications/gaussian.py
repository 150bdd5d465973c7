"""Gaussian noise on every weight, scaled by the weight's deviation at initialisation."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from model_wrappers.errors import ConfigError
from model_wrappers.modifications.base import Modification, Modified, field

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from model_wrappers.checkpoint import Checkpoint

__all__ = ["Gaussian", "standard_normal"]


@dataclass(frozen=True, kw_only=True)
class Gaussian(Modification):
    """theta + gamma * sigma_0 * z with z ~ N(0, I) and sigma_0 each parameter's deviation **at initialisation**.

    One draw per parameter tensor, from a generator seeded by (seed, parameter name), in float32 on the CPU whatever the
    model's device and dtype; the sum is formed in float32 and rounded once. So a seed is the same noise for a model in
    bfloat16 on a GPU and in float32 on a laptop, and tied embeddings, one parameter, get one draw. Norm gains, biases
    and whatever else was initialised to a constant have sigma_0 = 0 and stay as they are.

    Source: Springer et al. 2025, equation 1 and Appendix C.2.
    Deviation: none. Scaling by the current norm, as the authors' later code does, would grow with pre-training and is a
    different quantity.
    """

    name: ClassVar[str] = "gaussian"
    source: ClassVar[str] = "Overtrained Language Models Are Harder to Fine-Tune, equation 1 and Appendix C.2"
    neutral: ClassVar[dict[str, object]] = {"gamma": 0.0}

    gamma: float = field(doc="noise scale in units of the initial standard deviation, >= 0")
    init_std: str = field(
        "auto",
        doc="where the initial deviations come from: auto, recorded, step0:REVISION, family:NAME, or a number",
    )

    def check(self) -> None:
        if self.gamma < 0:
            raise ConfigError(f"gamma={self.gamma}: must be 0 or more; the paper's figures use 0.01 to 0.1")

    def identity(self, checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        described = super().identity(checkpoint, tokenizer)
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

        from model_wrappers.initial_std import resolve_initial_std

        initial = resolve_initial_std(self.init_std, model, checkpoint)
        squared = 0.0
        scales = {name: self.gamma * initial.std[name] for name, _ in model.named_parameters()}
        # Fresh pages for every tensor would cost more than the arithmetic: one buffer of each kind serves all of them.
        largest = max((p.numel() for name, p in model.named_parameters() if scales[name]), default=0)
        drawn, squares = torch.empty(largest, dtype=torch.float32), torch.empty(largest, dtype=torch.float64)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if scales[name] == 0:
                    continue
                noise = standard_normal(self.seed, name, parameter.shape, out=drawn).mul_(scales[name])
                squared += float(squares[: noise.numel()].copy_(noise.flatten()).square_().sum())
                noise += parameter.detach().to("cpu", torch.float32)
                parameter.copy_(noise)
        record = {"init_std_source": initial.source, "init_std_cited": initial.cited}
        return Modified(model, {"distance": math.sqrt(squared)}, record)


def standard_normal(seed: int, name: str, shape: torch.Size, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return z ~ N(0, I) of ``shape``, float32 on the CPU, determined by ``seed`` and the parameter's ``name`` alone.

    Args:
        seed: of the noise.
        name: of the parameter.
        shape: of the parameter.
        out: float32 on the CPU, flat, at least as long as ``shape`` holds numbers: its beginning is drawn into and returned.
    """
    import torch

    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    drawn = torch.empty(shape, dtype=torch.float32) if out is None else out[: shape.numel()].view(shape)
    return torch.randn(shape, generator=generator, dtype=torch.float32, out=drawn)
