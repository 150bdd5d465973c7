"""What a study is, as frozen data: what `overtrain.study.load` reads from YAML and everything else works on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from model_wrappers.modifications.base import Modification
    from overtrain.pretrain.recipe import Recipe

__all__ = [
    "BASE",
    "LADDER_TEXT",
    "Evaluation",
    "Judge",
    "Keep",
    "LadderRun",
    "Point",
    "Primary",
    "Reference",
    "Resources",
    "Select",
    "Study",
    "Tuned",
    "Variant",
]

BASE = "base"
"""Name of the variant that is the checkpoint as it is."""

LADDER_TEXT = "ladder"
"""``text_file`` of a study with a ladder: the documents that the ladder's text holds out."""

Keep = Literal["none", "best", "all"]


@dataclass(frozen=True, kw_only=True)
class LadderRun:
    """One pre-training run of a ladder: the recipe (its seed being the initialisation's) and the budget in tokens."""

    recipe: Recipe
    budget: int


@dataclass(frozen=True, kw_only=True)
class Point:
    """One checkpoint of a study.

    Attributes:
        repo: a hub repository or a local folder; empty for a ladder's run until it is pre-trained.
        revision: of a repository.
        subfolder: within the repository or folder.
        tokens: seen in pre-training; a budget of every curve.
        learning_rate: of the pre-training at this checkpoint, where known; a confound to print beside every curve.
        family: what is compared across budgets.
        run: the pre-training run; published checkpoints of one family are one run.
        ladder: how to pre-train it, for a ladder.
    """

    repo: str
    revision: str = "main"
    subfolder: str = ""
    tokens: int
    learning_rate: float | None = None
    family: str
    run: str
    ladder: LadderRun | None = None
    local: bool = False

    @property
    def label(self) -> str:
        """``repo@revision``, the folder's name, or ``run/tokens-N`` of a ladder."""
        if self.ladder is not None:
            return f"{self.run}/tokens-{self.tokens}"
        inside = f"/{self.subfolder}" if self.subfolder else ""
        if self.local:
            return f"{self.repo.rstrip('/').rpartition('/')[2]}{inside}"
        return f"{self.repo}{inside}@{self.revision}"

    def spec(self) -> dict[str, Any]:
        """Return what says which weights these are, as JSON data; labels such as family and tokens are no part of it."""
        if self.ladder is not None:
            return {"ladder": self.ladder.recipe.run(self.ladder.budget)}
        where = {"folder": self.repo} if self.local else {"repo": self.repo, "revision": self.revision}
        return where | {"subfolder": self.subfolder}


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A checkpoint that was modified elsewhere, and the one that it was made from.

    Attributes:
        point: the modified weights; tokens, family and run are those of ``base``.
        base: what it was made from.
        variant: its place among the study's variants.
        seed: of the modification, where known.
        fields: of the modification, for the frame's columns, e.g. ``learning_rate``.
    """

    point: Point
    base: Point
    variant: str
    seed: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A named list of modifications, spelled out over its grid.

    Attributes:
        name: as in the YAML file.
        grid: one tuple of steps, in order, per point of the grid; the seeds are not yet set.
        seeds: of every point.
        axes: name of each axis -> its values, ``step.field`` where two steps share a field's name.
    """

    name: str
    grid: tuple[tuple[Modification, ...], ...]
    seeds: tuple[int, ...]
    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How cells are scored.

    Attributes:
        limit: documents per task at most.
        num_fewshot: in place of the tasks' own.
        dtype: of the evaluated weights; ``auto`` is the checkpoint's.
        metadata: for the tasks, e.g. ``documents`` of the perplexity tasks.
        text_file: of ``overtrain_text``.
        include_path: a folder of further task YAMLs.
        batch_size: per forward, or ``auto``; changes no score beyond rounding.
        device: torch device; default an accelerator where there is one.
        samples: keep lm-eval's samples (texts and answers) of every document; those of tasks that generate are always kept.
        trust_remote_code: run code that a repository brings along.
        generate_backend: who generates text: lm-eval's own model, or vLLM with the weights.
    """

    limit: int | None = None
    num_fewshot: int | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    metadata: dict[str, Any] = field(default_factory=dict)
    text_file: str | None = None
    include_path: str | None = None
    batch_size: int | str = "auto"
    device: str | None = None
    samples: bool = False
    trust_remote_code: bool = False
    generate_backend: Literal["hf", "vllm"] = "hf"

    def spec(self) -> dict[str, Any]:
        """Return what decides scores, as JSON data."""
        names = ("limit", "num_fewshot", "dtype", "metadata", "text_file", "include_path")
        generated = {} if self.generate_backend == "hf" else {"generate_backend": self.generate_backend}
        return {name: getattr(self, name) for name in names} | generated


@dataclass(frozen=True, kw_only=True)
class Select:
    """What selects the learning rate: a metric of ``task``, by default of the training itself.

    Attributes:
        metric: of ``task``.
        task: ``training``, or one of the study's.
        how: ``metric``: by that metric; ``cross_fit``: by AlpacaEval's win rate, which is itself reported on the half of the
            instructions that did not select; ``reported``: by the win rate that is reported, which biases it.
    """

    metric: str = "validation_loss"
    task: str = "training"
    how: Literal["metric", "cross_fit", "reported"] = "metric"

    def describe(self) -> dict[str, Any]:
        """Return it as JSON data; ``how`` only where it is not by a plain metric."""
        return {"task": self.task, "metric": self.metric} | ({} if self.how == "metric" else {"how": self.how})


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Which cell AlpacaEval's answers are compared with; what is None is the default's, see `overtrain.plan.reference`.

    Attributes:
        checkpoint: label or tokens.
        learning_rate: one of the grid.
        seed: one of the variant's, or another: that cell is then trained for its answers alone and is on no curve.
        variant: of the study; the others keep their defaults.
    """

    checkpoint: str | int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    variant: str | None = None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Who judges AlpacaEval's answers, where the command line does not say.

    Attributes:
        url: of an OpenAI-compatible server, up to ``/v1``.
        model: that it serves.
        orders: ``both`` orders of each pair, or AlpacaEval's own seeded ``one``.
        max_missing: share of a cell's verdicts that may be missing.
        concurrency: requests under way at a time.
    """

    url: str | None = None
    model: str | None = None
    orders: Literal["both", "one"] = "both"
    max_missing: float = 0.01
    concurrency: int = 64


@dataclass(frozen=True, kw_only=True)
class Primary:
    """The one comparison that is named before the study runs.

    Attributes:
        task: task or group; of a group its average.
        metric: of it.
        variant: modified how; of a variant with a learning rate to select, at the selected one.
        compare: two budgets in tokens.
        at: which point of the variant's grid (a noise scale), where it has one that is not selected.
    """

    task: str
    metric: str
    variant: str
    compare: tuple[int, int]
    at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one cell takes.

    Attributes:
        cpus: CPU cores, for Ray.
        gpus: accelerators, for Ray.
        processes: started by torchrun for one cell; 1 runs it in-process.
        retries: of a cell whose node is lost, for Ray.
    """

    cpus: float = 1
    gpus: float = 0
    processes: int = 1
    retries: int = 3


@dataclass(frozen=True, kw_only=True)
class Study:
    """One YAML file. See `overtrain.study.load` for its keys."""

    name: str
    description: str
    points: tuple[Point, ...]
    tuned: tuple[Tuned, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    evaluation: Evaluation
    select: Select
    reference: Reference | None = None
    judge: Judge | None = None
    primary: Primary | None
    plateau_margin: float | None
    keep_weights: Keep
    resources: Resources
    file: Path

    def describe(self) -> dict[str, Any]:
        """Return what analysis and report need to know beyond the cells, as JSON data."""
        primary = self.primary
        return {
            "name": self.name,
            "description": self.description,
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
            "variants": {v.name: {k: list(values) for k, values in v.axes.items()} for v in self.variants},
            "budgets": sorted({p.tokens for p in self.points}),
            "select": self.select.describe(),
            "reference": None if self.reference is None else asdict(self.reference),
            "judge": None if self.judge is None else asdict(self.judge),
            "primary": None
            if primary is None
            else {
                "task": primary.task,
                "metric": primary.metric,
                "variant": primary.variant,
                "compare": list(primary.compare),
                "at": primary.at,
            },
            "plateau_margin": self.plateau_margin,
        }
