"""LoRA fine-tuning, merged into the weights before evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from model_wrappers.errors import ConfigError
from model_wrappers.modifications.base import Axis, field
from model_wrappers.modifications.finetune import FineTune

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from model_wrappers.checkpoints.checkpoint import Checkpoint

__all__ = ["Lora"]


@dataclass(frozen=True, kw_only=True)
class Lora(FineTune):
    """Low-rank adapters from peft, trained like `FineTune` and then merged, so that plain weights are evaluated.

    Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685; not part of the paper's experiments.
    """

    name: ClassVar[str] = "lora"
    source: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    preferred: ClassVar[bool] = False
    axes: ClassVar[tuple[Axis, ...]] = (
        *FineTune.axes,
        Axis("lora_rank", "LoRA rank", scale="log"),
        Axis("lora_alpha", "LoRA alpha", scale="log"),
    )

    lora_rank: int = field(doc="rank of the adapters, >= 1")
    lora_alpha: float = field(16.0, doc="scale: the update is multiplied by lora_alpha / lora_rank, > 0")
    lora_dropout: float = field(0.0, doc="dropout before the adapters, 0 to below 1")
    lora_targets: tuple[str, ...] = field(
        ("all-linear",), doc="module names joined by '+', or all-linear (every linear layer but the output head)"
    )

    def check(self) -> None:
        super().check()
        if self.lora_rank < 1:
            raise ConfigError(
                f"lora_rank={self.lora_rank}: must be 1 or more; 8 to 64 is usual, leave it out to tune all"
            )
        if self.lora_alpha <= 0:
            raise ConfigError(f"lora_alpha={self.lora_alpha}: must be above 0; 16 is usual")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"lora_dropout={self.lora_dropout}: must be from 0 to below 1")
        if self.l2_to_init:
            raise ConfigError(
                f"l2_to_init={self.l2_to_init}: penalises all weights, LoRA moves few; leave one of them out"
            )

    def is_random(self, checkpoint: Checkpoint | None) -> bool:  # noqa: ARG002
        """The adapters start at random numbers."""
        return True

    def prepare(self, model: PreTrainedModel) -> Any:
        from peft import LoraConfig, get_peft_model

        targets = self.lora_targets[0] if self.lora_targets == ("all-linear",) else list(self.lora_targets)
        config = LoraConfig(
            r=self.lora_rank,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            linear = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if type(m).__name__ == "Linear"})
            raise ConfigError(
                f"lora_targets={'+'.join(self.lora_targets)}: no such module in {type(model).__name__}; "
                f"allowed: all-linear, {', '.join(linear)}"
            ) from error

    def finish(self, model: Any) -> PreTrainedModel:
        return model.merge_and_unload()
