"""A modification of one's own: every linear layer keeps only its largest singular values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from model_wrappers.errors import ConfigError
from model_wrappers.modifications.base import Axis, Modification, Modified, field


@dataclass(frozen=True, kw_only=True)
class Truncate(Modification):
    """Replace each linear layer's weight by its best approximation of lower rank; the output head stays as it is.

    Source: Sharma et al. 2023, https://arxiv.org/abs/2312.13558, Section 3.
    Deviation: all linear layers are truncated by the same share, not one chosen layer.
    """

    name: ClassVar[str] = "truncate"
    source: ClassVar[str] = "https://arxiv.org/abs/2312.13558, Section 3"
    category: ClassVar[str] = "compression"
    neutral: ClassVar[dict[str, object]] = {"kept_share": 1.0}
    random: ClassVar[bool] = False
    axes: ClassVar[tuple[Axis, ...]] = (Axis("kept_share", "share of singular values kept"),)

    kept_share: float = field(doc="share of each layer's singular values that is kept, above 0, at most 1")

    def check(self) -> None:
        if not 0 < self.kept_share <= 1:
            raise ConfigError(f"kept_share={self.kept_share}: must be above 0 and at most 1; 0.9 is mild, 0.1 is harsh")

    def apply(self, model, tokenizer, checkpoint, *, work=None) -> Modified:
        import torch  # here, so that listing modifications stays fast

        squared = 0.0
        with torch.no_grad():
            for layer in model.modules():
                if not isinstance(layer, torch.nn.Linear) or layer is model.get_output_embeddings():
                    continue
                left, values, right = torch.linalg.svd(layer.weight.float(), full_matrices=False)
                rank = max(1, round(self.kept_share * len(values)))
                if rank == len(values):
                    continue
                lower = (left[:, :rank] * values[:rank]) @ right[:rank]
                squared += float((lower - layer.weight).double().square().sum())
                layer.weight.copy_(lower)
        return Modified(model, {"distance": math.sqrt(squared)})
