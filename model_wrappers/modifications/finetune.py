"""Full fine-tuning on instruction data; LoRA is a subclass."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from model_wrappers.digests import tokenizer_sha256
from model_wrappers.errors import ConfigError, DataError, OvertrainError
from model_wrappers.modifications.base import Axis, Cost, Modification, Modified, field, isolated_generators

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from model_wrappers.training.data import DataSpec
    from model_wrappers.training.tokenise import TokenisedRow

__all__ = ["FineTune"]


@dataclass(frozen=True, kw_only=True)
class FineTune(Modification):
    """Supervised fine-tuning of all weights by transformers' ``Trainer``.

    The weights are always float32, because updates with the paper's low learning rates are too small for bfloat16 weights.
    ``precision=bf16`` only switches on autocast. Rows are flattened into one sequence if the architecture keeps them apart,
    which is tested at the start; otherwise they are padded. The loss is the mean over the target tokens of the global batch,
    for any number of processes and micro-batches. The optimiser is AdamW with torch's betas and epsilon.

    Source: Springer et al. 2025, Section 2.1, Appendix B.2 and Tables 2 and 4; ``l2_to_init`` is Section 4.3's regulariser.
    Deviation: the paper does not give epochs, lengths or templates. One epoch, 2,048 tokens and the templates of `DataSpec`
    are our assumption.
    """

    name: ClassVar[str] = "finetune"
    source: ClassVar[str] = "Overtrained Language Models Are Harder to Fine-Tune, Section 2.1 and Appendix B.2"
    category: ClassVar[str] = "finetune"
    neutral: ClassVar[dict[str, object]] = {"max_steps": 0}
    materialise: ClassVar[bool] = True
    preferred: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (
        *("train_steps", "train_loss", "train_loss_last", "validation_loss_before", "validation_loss_before_stderr"),
        *("validation_loss", "validation_loss_stderr", "distance"),
    )
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis("learning_rate", "learning rate", scale="log", selected=True),
        Axis("data", "fine-tuning data"),
        Axis("epochs", "epochs", scale="log"),
        Axis("max_steps", "optimiser steps", scale="log"),
        Axis("train_batch_size", "batch size", "rows", scale="log"),
        Axis("l2_to_init", "weight of the L2 penalty", scale="log"),
    )

    data: str = field(doc="anthropic_hh, tulu, alpaca, dolly, gsm8k, a JSONL/Parquet file or a hub data set", file=True)
    learning_rate: float = field(doc="peak learning rate, > 0")
    data_format: str = field("auto", doc="auto, messages, prompt_completion, text, alpaca, dolly, hh or gsm8k")
    data_split: str = field("train", doc="split to train on")
    data_config: str | None = field(None, doc="configuration of a hub data set")
    data_limit: int | None = field(None, doc="rows to keep, drawn at random by data_seed; default all (tulu: 200,000)")
    data_seed: int = field(0, doc="seed of the row subset and of the validation split")
    template: str = field("auto", doc="auto, tulu, alpaca, hh, qa, plain or chat (the tokenizer's own)")
    validation_fraction: float = field(0.02, doc="share of the rows held out for validation loss, 0 to 0.5")
    train_max_length: int = field(2048, doc="tokens per row at most; never more than the model's context")
    lr_scheduler: Literal["cosine", "constant", "constant_with_warmup", "linear"] = field(
        "cosine", doc="learning rate schedule after warm-up"
    )
    warmup_steps: int = field(0, doc="linear warm-up in optimiser steps; the first has rate 0, as in transformers")
    warmup_ratio: float = field(0.0, doc="linear warm-up as a share of all steps, 0 to 1; instead of warmup_steps")
    weight_decay: float = field(0.0, doc="AdamW weight decay, >= 0")
    epochs: float = field(1.0, doc="passes over the rows, > 0; ignored when max_steps is given")
    max_steps: int | None = field(None, doc="optimiser steps; 0 leaves the checkpoint as it is")
    train_batch_size: int = field(256, doc="rows per optimiser step over all processes (global batch)")
    max_grad_norm: float = field(1.0, doc="gradient clipping, 0 for none")
    l2_to_init: float = field(0.0, doc="lambda of lambda * ||theta - theta_0||^2 added to the loss, >= 0")
    precision: Literal["fp32", "bf16"] = field("fp32", doc="fp32, or bf16 autocast over fp32 weights")
    micro_batch_size: int | None = field(
        None, doc="rows per forward and process; accumulation is derived", identity=False
    )
    gradient_checkpointing: bool = field(False, doc="recompute activations to save memory", identity=False)
    fsdp: bool = field(False, doc="shard the weights over torchrun's processes (needs accelerators)", identity=False)
    resume_every: int = field(
        0, doc="steps between states to resume a killed training from; 0 for none", identity=False
    )

    def check(self) -> None:
        positive = {
            "learning_rate": "1e-6 to 1e-3 is usual",
            "epochs": "1 to 4 is usual",
            "train_batch_size": "e.g. 256",
        }
        for name, usual in positive.items():
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name)}: must be above 0; {usual}")
        for name in ("warmup_steps", "weight_decay", "max_grad_norm", "l2_to_init", "resume_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}: must be 0 or more; give 0 to switch it off")
        for name in ("max_steps", "micro_batch_size"):
            lowest = 0 if name == "max_steps" else 1
            if getattr(self, name) is not None and getattr(self, name) < lowest:
                raise ConfigError(
                    f"{name}={getattr(self, name)}: must be {lowest} or more; leave it out for the default"
                )
        if not 0 <= self.warmup_ratio < 1:
            raise ConfigError(f"warmup_ratio={self.warmup_ratio}: must be from 0 to below 1, a share of all steps")
        if self.warmup_ratio and self.warmup_steps:
            raise ConfigError(
                f"warmup_steps={self.warmup_steps} and warmup_ratio={self.warmup_ratio}: give only one of them"
            )
        if self.train_max_length < 2:
            raise ConfigError(f"train_max_length={self.train_max_length}: must be 2 or more tokens; 2048 is usual")
        self.data_spec()  # checks its own fields

    def data_spec(self) -> DataSpec:
        """Return the fields that choose the training data, in the form that the data loader takes."""
        from model_wrappers.training.data import DataSpec

        return DataSpec(**{f.name: getattr(self, f.name) for f in fields(DataSpec)})

    @classmethod
    def content_fields(cls) -> tuple[str, ...]:
        from model_wrappers.training.data import DataSpec

        return tuple(f.name for f in fields(DataSpec))

    def content(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        from model_wrappers.training.data import load_examples

        loaded = load_examples(self.data_spec(), tokenizer)
        return {"data_sha256": loaded.hash, "template": loaded.template, "tokenizer": tokenizer_sha256(tokenizer)}

    def missing_files(self) -> list[str]:
        from model_wrappers.training.rows import missing

        found = missing(self.data)
        return [found] if found else []

    def is_random(self, checkpoint: Checkpoint | None) -> bool:
        """The order of the rows and dropout are random: not so if every step takes all rows and nothing is dropped."""
        from model_wrappers.training.known import fits_one_batch

        return not fits_one_batch(self.data_spec(), self.train_batch_size) or _has_dropout(checkpoint)

    def problems(self, checkpoint: Checkpoint | None) -> list[str]:
        from model_wrappers.training.known import rows_at_most, rows_problem
        from model_wrappers.training.schedule import Schedule, check_warmup

        found = super().problems(checkpoint)
        if not found and (unreadable := rows_problem(self.data_spec())):
            found.append(unreadable)
        rows = self.train_batch_size if self.max_steps is not None else rows_at_most(self.data_spec())
        if not found and rows is not None:
            try:
                check_warmup(Schedule(**{f.name: getattr(self, f.name) for f in fields(Schedule)}), rows)
            except ConfigError as error:
                found.append(str(error))
        return found

    def remarks(self, checkpoint: Checkpoint | None) -> list[str]:
        if self.is_random(checkpoint):
            return []
        batch = f"train_batch_size={self.train_batch_size}"
        text = (
            f"seeds cannot differ: all training rows of {self.data} fit one batch ({batch}) and nothing else is random, so "
            "every seed is the same training and there is one cell for all of them; the error over documents carries the "
            "comparison. Give more rows or a smaller batch to repeat the training"
        )
        return [text]

    def cost(self, checkpoint: Checkpoint | None) -> Cost:  # noqa: ARG002
        from model_wrappers.training.sizes import training_tokens

        schedule = {name: getattr(self, name) for name in ("epochs", "max_steps", "train_batch_size")}
        tokens = training_tokens(self.data_spec(), self.train_max_length, **schedule)
        unknown = f"training on {self.data}" if tokens is None else ""
        return Cost(tokens=tokens, flops_per_token=6, kept_bytes_per_parameter=4, unknown=unknown)

    def prompt_template(self, record: Mapping[str, Any]) -> str | None:
        return str(record["training_data"]["template"]) if "training_data" in record else None

    def identity(
        self,
        checkpoint: Checkpoint,
        tokenizer: PreTrainedTokenizerBase,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        # The identity contains the rendered rows and their split. The fields that choose the rows are then redundant.
        no_part = {name for name in self.content_fields() if name != "template"}
        no_part |= {"epochs"} if self.max_steps is not None else set()
        return {k: v for k, v in super().identity(checkpoint, tokenizer, content).items() if k not in no_part}

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the model to train; LoRA adds its adapters here."""
        return model

    def finish(self, model: Any) -> PreTrainedModel:
        """Return the plain model after training; LoRA merges its adapters here."""
        return model

    def apply(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        checkpoint: Checkpoint,  # noqa: ARG002
        *,
        work: Path | None = None,
    ) -> Modified:
        if self.max_steps == 0:
            return Modified(model, {"train_steps": 0.0, "distance": 0.0})
        import torch

        from model_wrappers.training.data import load_examples
        from model_wrappers.training.schedule import Schedule
        from model_wrappers.training.tokenise import tokenise
        from model_wrappers.training.trainer import distances, train

        dtype = model.dtype
        model = model.float()
        loaded = load_examples(self.data_spec(), tokenizer)
        length = min(self.train_max_length, _context(model))
        rows = tokenise(loaded.train, tokenizer, length)
        held_out = tokenise(loaded.validation, tokenizer, length, allow_empty=True)
        _check_vocabulary(model, [*rows.rows, *held_out.rows])
        start = {n: p.detach().to("cpu", torch.float32).clone() for n, p in model.named_parameters()}
        schedule = Schedule(**{f.name: getattr(self, f.name) for f in fields(Schedule)})
        with isolated_generators(self.seed), tempfile.TemporaryDirectory() as scratch:
            trained = train(
                self.prepare(model),
                rows.rows,
                held_out.rows,
                schedule,
                pad_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
                work=work or Path(scratch),
            )
        final = self.finish(trained.model)
        moved = distances(start, dict(final.named_parameters()))
        record = {
            "training_data": loaded.describe()
            | {
                "max_length": length,
                "dropped_when_tokenised": rows.dropped,
                "truncated": rows.truncated,
                "tokens_per_epoch": rows.tokens,
                "target_tokens_per_epoch": rows.target_tokens,
            },
            "training_log": trained.log,
        }
        return Modified(final.to(dtype).eval(), trained.metrics | moved, record)


def _has_dropout(checkpoint: Checkpoint | None) -> bool:
    """Say whether the configuration drops anything at random; yes where that cannot be told. Ladders' models do not."""
    if checkpoint is None:
        return False
    try:
        config = checkpoint.config()
    except OvertrainError:  # said elsewhere
        return True
    return "auto_map" in config or _drops(config)


def _drops(value: Any, name: str = "") -> bool:
    if isinstance(value, dict):
        return any(_drops(inner, str(key)) for key, inner in value.items())
    return "drop" in name and isinstance(value, (int, float)) and value > 0


def _check_vocabulary(model: PreTrainedModel, rows: Sequence[TokenisedRow]) -> None:
    """Refuse tokens that the model has no embedding for: a GPU would only say that an assertion failed."""
    known = model.get_input_embeddings().weight.shape[0]
    largest = max((int(row.input_ids.max()) for row in rows), default=0)
    if largest >= known:
        raise DataError(
            f"the tokenizer gives token {largest}, and the model has embeddings for {known} tokens only; copy the tokenizer "
            "that belongs to the checkpoint beside its weights"
        )


def _context(model: PreTrainedModel) -> int:
    """Return the model's context length in tokens, or a very large number if the configuration names none."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        value = getattr(model.config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 1 << 30
