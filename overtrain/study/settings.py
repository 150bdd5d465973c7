"""The sections of a study's file beside checkpoints and modifications: one declaration per key."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  (read at run time by get_type_hints)
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from model_wrappers.host_arguments import DEVICES
from overtrain.common.schema import FileSection, key
from overtrain_tasks.alpaca_eval import TASK

__all__ = [
    "LADDER_TEXT",
    "SELECTIONS",
    "TRAINING",
    "CellResources",
    "Evaluation",
    "JudgeSettings",
    "PrimaryComparison",
    "ReferenceChoice",
    "Selection",
]

TRAINING = "training"
"""Task name of what training and modifications measure of themselves."""

LADDER_TEXT = "ladder"
"""``text_file`` of a study with a ladder: the documents that the ladder's text holds out."""


@dataclass(frozen=True, kw_only=True)
class Evaluation(FileSection):
    """How every cell is scored."""

    example: ClassVar[str] = """\
evaluation:
  limit: 500
  dtype: bfloat16
  batch_size: auto
  metadata: {documents: 500}
"""

    limit: int | None = key(None, above=0, identity="always", doc="documents per task at most; all without it")
    num_fewshot: int | None = key(
        None, least=0, identity="always", doc="examples in the prompt; without it, the number that each task sets"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "auto", identity="always", doc="type of the evaluated weights; `auto` is the checkpoint's own type"
    )
    metadata: dict[str, Any] = key(
        factory=dict,
        identity="always",
        example="{documents: 500}",
        doc="settings that tasks read, such as `documents` of the perplexity tasks and `template` of the generation task",
    )
    text_file: str | None = key(
        None,
        path="any",
        shortcuts={LADDER_TEXT: LADDER_TEXT},
        identity="always",
        doc="text of the task `overtrain_text`, a .jsonl, .parquet or .txt file; `ladder` is the text that a ladder holds "
        "out, and the default of a study with a ladder; else the default is the environment variable `OVERTRAIN_TEXT`",
    )
    include_path: str | None = key(
        None, path="any", identity="always", doc="a folder with further task files in lm-eval's format"
    )
    batch_size: int | str = key(
        "auto",
        least=1,
        pattern=r"auto(:\d+)?",
        allowed="an integer of 1 or more, or auto",
        doc="requests per forward pass on lm-eval's own path; it changes no score beyond rounding",
    )
    device: str | None = key(
        None,
        pattern=r"cpu|cuda(:\d+)?|mps",
        allowed=DEVICES,
        doc="torch device: `cpu`, `cuda`, `cuda:N` or `mps`; by default an accelerator if there is one, else the CPU",
    )
    samples: bool = key(
        False, doc="keep the texts and answers of every document; tasks that generate text always keep them"
    )
    trust_remote_code: bool = key(False, doc="run code that a repository brings along")
    generate_backend: Literal["hf", "vllm"] = key(
        "hf", identity="changed", doc="what generates text: lm-eval's own model, or vLLM with the same weights"
    )


@dataclass(frozen=True, kw_only=True)
class Selection(FileSection):
    """What selects one value per checkpoint where a variant leaves a choice, such as the learning rate.

    By default the training itself decides, by the loss on the rows that it holds out. Two words select by AlpacaEval's win
    rate instead. `select: alpaca_eval` selects on one half of the instructions and reports the other half. `select: paper`
    selects by the win rate that it also reports, as the paper does, which biases the result.

    Attributes:
        how: ``metric``: by a metric of a task; ``cross_fit`` and ``reported``: by the win rate, as explained above.
    """

    example: ClassVar[str] = "select: {task: training, metric: validation_loss}\n"

    metric: str = key(doc="a metric of the task; the lowest or highest value wins, as the metric says")
    task: str = key(TRAINING, doc="one of the study's tasks, or `training` for the metrics of the training itself")
    how: Literal["metric", "cross_fit", "reported"] = "metric"

    def describe(self) -> dict[str, Any]:
        """Return it as JSON data; ``how`` only if a win rate selects."""
        return {"task": self.task, "metric": self.metric} | ({} if self.how == "metric" else {"how": self.how})


SELECTIONS = {
    "alpaca_eval": Selection(metric="win_rate", task=TASK, how="cross_fit"),
    "paper": Selection(metric="win_rate", task=TASK, how="reported"),
}


@dataclass(frozen=True, kw_only=True)
class ReferenceChoice(FileSection):
    """The cell whose answers are the other side of AlpacaEval's comparisons.

    A key that is not given keeps its default: the last checkpoint, the middle of the grid of learning rates, the first
    seed. Every field that the study's variants have is a key too, such as the learning rate of a fine-tuning.
    """

    example: ClassVar[str] = """\
tasks: [overtrain_c4, overtrain_alpaca_eval]
reference: {checkpoint: 3_094_000_000_000, learning_rate: 1e-5, seed: 3}
"""

    checkpoint: int | str | None = key(None, doc="label of a checkpoint, or its tokens")
    seed: int | None = key(
        None,
        least=0,
        doc="a seed of the variant, or another one: that cell is then trained for its answers alone and is on no curve",
    )
    variant: str | None = key(None, doc="a variant of the study; the other variants keep their default reference")
    fields: Mapping[str, str | int | float | bool | None] = key(
        factory=dict, rest=True, doc="the value that this field of the modification has in the reference"
    )

    def describe(self) -> dict[str, Any]:
        """Return it as JSON data, the modification's fields beside the other keys."""
        return {"checkpoint": self.checkpoint, "seed": self.seed, "variant": self.variant, **self.fields}


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(FileSection):
    """Which server judges AlpacaEval's answers, and how. The options of `overtrain judge` take precedence.

    The key of a server is never written in a file; set the environment variable `OPENAI_API_KEY`.
    """

    example: ClassVar[str] = """\
tasks: [overtrain_c4, overtrain_alpaca_eval]
judge: {url: "http://127.0.0.1:8000/v1", model: meta-llama/Meta-Llama-3-70B-Instruct}
"""

    url: str | None = key(
        None,
        pattern=r"https?://[^/\s@]+(/.*)?",
        allowed="an address such as http://127.0.0.1:8000/v1, without a password",
        doc="an OpenAI-compatible server, up to `/v1`",
    )
    model: str | None = key(None, doc="a model that the server offers")
    orders: Literal["both", "one"] = key(
        "both", doc="ask `both` orders of each pair of answers, or AlpacaEval's own seeded order alone (`one`)"
    )
    max_missing: float = key(
        0.01, least=0, most=1, allowed="a share from 0 to 1", doc="share of a cell's preferences that may be missing"
    )
    concurrency: int = key(64, above=0, doc="requests that wait for their answer at the same time")
    backend: Literal["logprobs", "sampled"] = key(
        "logprobs",
        doc="how the judge is asked: `logprobs` reads the log-probabilities of one token, `sampled` samples the answer of a "
        "server that returns none",
    )
    samples: int | None = key(
        None, above=0, doc="of the judge's answer per question and order, with `backend: sampled`; 8 if not given"
    )


@dataclass(frozen=True, kw_only=True)
class PrimaryComparison(FileSection):
    """The one comparison that is named before the study runs. It needs no correction for looking at many benchmarks."""

    example: ClassVar[str] = """\
primary:
  task: overtrain_c4
  metric: nll_per_token
  variant: noise
  at: 0.1
  compare: [41_000_000_000, 3_094_000_000_000]
"""

    task: str = key(doc="a task, or a group of tasks: of a group, its average is compared")
    metric: str = key(doc="a metric of the task")
    variant: str = key(doc="a variant of the study; if it has a learning rate to select, the selected one is compared")
    compare: tuple[int, int] = key(allowed="two budgets in tokens", doc="the budgets, the smaller one first")
    at: float | None = key(
        None,
        doc="the value on the variant's grid, such as a noise scale, where the variant has one that is not selected",
    )


@dataclass(frozen=True, kw_only=True)
class CellResources(FileSection):
    """What one cell takes from the machine or the cluster."""

    example: ClassVar[str] = "resources: {cpus: 16, gpus: 8, processes: 8}\n"

    cpus: float = key(1, above=0, doc="CPU cores per cell, for Ray")
    gpus: float = key(0, least=0, doc="accelerators per cell, for Ray")
    processes: int = key(
        1, above=0, doc="processes that torchrun starts for one cell; 1 runs the cell without torchrun"
    )
    retries: int = key(3, least=0, doc="how often Ray starts a cell again after its node was lost")
