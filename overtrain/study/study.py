"""A study as frozen dataclasses. `overtrain.study.load` reads them from YAML, and all other rooms work with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  (read at run time by get_type_hints)
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from overtrain.common.schema import FileSection, key
from overtrain.common.typed_json import Value  # noqa: TC001  (read at run time by get_type_hints)
from overtrain.study.forms import FoldersForm, LadderForm, RevisionsForm, TunedForm
from overtrain.study.settings import (
    SELECTIONS,
    CellResources,
    Evaluation,
    JudgeSettings,
    PrimaryComparison,
    ReferenceChoice,
    Selection,
)

if TYPE_CHECKING:
    from model_wrappers.modifications.base import Modification
    from overtrain.pretrain.recipe import Recipe

__all__ = ["BASE", "Keep", "LadderRun", "Point", "Study", "TunedCheckpoint", "Variant"]

BASE = "base"
"""Name of the variant that is the checkpoint as it is."""

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
        local: whether ``repo`` is a folder of this machine.
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
        """Return the data that identify the weights, as JSON. Labels such as family and tokens are not included."""
        if self.ladder is not None:
            return {"ladder": self.ladder.recipe.run(self.ladder.budget)}
        where = {"folder": self.repo} if self.local else {"repo": self.repo, "revision": self.revision}
        return where | {"subfolder": self.subfolder}


@dataclass(frozen=True, kw_only=True)
class TunedCheckpoint:
    """A checkpoint that was modified outside of this study, and its base checkpoint.

    Attributes:
        point: the modified weights, with tokens, family and run of ``base``.
        base: the checkpoint before the modification.
        variant: name of the variant that it belongs to.
        seed: seed of the modification, if known.
        fields: fields of the modification, for the frame's columns.
    """

    point: Point
    base: Point
    variant: str
    seed: int | None = None
    fields: dict[str, Value] = field(default_factory=dict)


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
class Study(FileSection):
    """One YAML file; its keys are the fields that are declared with `key`.

    Attributes:
        tuned: the checkpoints that were modified elsewhere; their bases are among ``points``.
        file: the YAML file.
    """

    example: ClassVar[str] = """\
name: small
checkpoints:
  - repo: allenai/OLMo-1B-hf
    revisions: [step10000-tokens41B, step738000-tokens3094B]
modifications:
  noise: {gaussian: {gamma: [0.05, 0.1]}}
  sft: {finetune: {data: alpaca, learning_rate: [1e-5, 1e-4]}}
seeds: [0, 1, 2]
tasks: [overtrain_c4]
"""

    include: tuple[str, ...] = key(
        (), doc="one file or several, relative to this file; this file is laid on top of them, see below"
    )
    name: str = key(
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}",
        allowed="at most 200 letters, digits, '.', '_' and '-', the first a letter or digit, for it names a folder",
        doc="name of the study and of its folder of results",
    )
    description: str = key("", doc="one line for the report")
    points: tuple[Point, ...] = key(
        name="checkpoints",
        kind=tuple[RevisionsForm | FoldersForm | LadderForm | TunedForm, ...],
        doc="what is modified and evaluated, in one of four forms",
    )
    tuned: tuple[TunedCheckpoint, ...] = ()
    variants: tuple[Variant, ...] = key(
        (), name="modifications", kind=dict[str, Any], doc="named variants, each an ordered list of modifications"
    )
    seeds: tuple[int, ...] = key(
        (0,), least=0, most=2**32 - 1, doc="seeds of the modifications; every seed is a cell of its own"
    )
    tasks: tuple[str, ...] = key(doc="tasks and groups of lm-eval and of this package")
    evaluation: Evaluation = key(factory=Evaluation, doc="how every cell is scored")
    select: Selection = key(
        Selection(metric="validation_loss"),
        shortcuts=SELECTIONS,
        example="{metric: validation_loss}",
        doc="what selects the learning rate: `alpaca_eval`, `paper`, or a metric",
    )
    reference: ReferenceChoice | None = key(None, doc="the cell with which AlpacaEval's answers are compared")
    judge: JudgeSettings | None = key(None, doc="the server that judges AlpacaEval's answers")
    primary: PrimaryComparison | None = key(None, doc="the one comparison that is named before the study runs")
    plateau_margin: float | None = key(
        None, above=0, doc="in the metric's unit: two budgets that differ by less count as equal"
    )
    keep_weights: Keep = key(
        "none", doc="tuned weights to keep after their evaluation: none, the selected ones (`best`), or all"
    )
    resources: CellResources = key(factory=CellResources, doc="what one cell takes from the machine or the cluster")
    file: Path
