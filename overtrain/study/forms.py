"""The forms in which a study's file names checkpoints, and the long form of a variant: one declaration per key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml  # noqa: TC002  (read at run time by get_type_hints)

from overtrain.common.schema import FileSection, key
from overtrain.pretrain.recipe import Recipe

__all__ = [
    "BaseForm",
    "FolderForm",
    "FoldersForm",
    "LadderForm",
    "LadderRecipe",
    "RevisionForm",
    "RevisionsForm",
    "TunedForm",
    "VariantForm",
]

_TOKENS = "tokens seen in pre-training; without it, read from the name or from the files beside the weights"
_RATE = "learning rate of the pre-training at this checkpoint, shown beside every curve"
_RUN = "name of the pre-training run; without it, the family"


@dataclass(frozen=True, kw_only=True)
class Form(FileSection):
    """A section of the file that is converted to another class after reading.

    Attributes:
        node: where it stands in the file, for messages.
    """

    node: yaml.Node | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class RevisionForm(Form):
    """One revision. A bare name stands for `{revision: NAME}`."""

    revision: str = key(bare=True, doc="branch, tag or commit of the repository")
    tokens: int | None = key(None, above=0, doc=_TOKENS)
    learning_rate: float | None = key(None, least=0, doc=_RATE)


@dataclass(frozen=True, kw_only=True)
class RevisionsForm(Form):
    """Revisions of one repository on the hub."""

    example: ClassVar[str] = """\
checkpoints:
  - repo: allenai/OLMo-1B-hf
    family: OLMo-1B
    revisions:
      - step10000-tokens41B
      - {revision: step738000-tokens3094B, learning_rate: 4e-5}
"""

    repo: str = key(doc="repository on the hub")
    revisions: tuple[RevisionForm, ...] = key(marks=True, doc="its checkpoints, one per budget")
    family: str | None = key(None, doc="what is compared across budgets; without it, the repository's name")
    run: str | None = key(None, doc=_RUN)
    subfolder: str = key("", doc="folder inside the repository")


@dataclass(frozen=True, kw_only=True)
class FolderForm(Form):
    """One folder. A bare path stands for `{path: PATH}`."""

    path: str = key(bare=True, path="folder", doc="folder with weights, beside the file or in the working directory")
    tokens: int | None = key(None, above=0, doc=_TOKENS)
    learning_rate: float | None = key(None, least=0, doc=_RATE)


@dataclass(frozen=True, kw_only=True)
class FoldersForm(Form):
    """Folders on this machine."""

    example: ClassVar[str] = """\
checkpoints:
  - folders: [checkpoints/tokens1B, {path: checkpoints/last, tokens: 2_000_000_000}]
    family: mine
"""

    folders: tuple[FolderForm, ...] = key(marks=True, doc="the checkpoints, one per budget")
    family: str = key("folders", doc="what is compared across budgets")
    run: str | None = key(None, doc=_RUN)


@dataclass(frozen=True, kw_only=True)
class LadderRecipe(Recipe):
    """The recipe of the ladder. Every run starts from the same initialisation and sees the text in the same order."""

    init_seeds: tuple[int, ...] = key(
        (0,), least=0, doc="seeds of the initialisation and of the order of the text; one pre-training run per seed"
    )


@dataclass(frozen=True, kw_only=True)
class LadderForm(Form):
    """A ladder of small models that the study pre-trains first. Studies under one `--runs` folder share their ladders."""

    example: ClassVar[str] = """\
checkpoints:
  - ladder: {budgets: [256_000, 1_024_000, 4_096_000], init_seeds: [0, 1, 2]}
    family: micro
tasks: [overtrain_text]
"""

    ladder: LadderRecipe = key(marks=True, doc="budgets, model and optimiser")
    family: str = key("ladder", doc="what is compared across budgets")


@dataclass(frozen=True, kw_only=True)
class BaseForm(Form):
    """The checkpoint that was modified. It joins the study's checkpoints."""

    repo: str | None = key(None, doc="repository on the hub; give this or `folder`")
    revision: str = key("main", doc="branch, tag or commit of the repository")
    folder: str | None = key(None, path="folder", doc="folder on this machine, in place of `repo`")
    subfolder: str = key("", doc="folder inside the repository or folder")
    tokens: int | None = key(None, above=0, doc=_TOKENS)
    learning_rate: float | None = key(None, least=0, doc=_RATE)


@dataclass(frozen=True, kw_only=True)
class TunedForm(Form):
    """A checkpoint that was fine-tuned or otherwise modified elsewhere, with the checkpoint that it was made from."""

    example: ClassVar[str] = """\
checkpoints:
  - repo: someone/OLMo-1B-chat
    base: {repo: allenai/OLMo-1B-hf, revision: step738000-tokens3094B}
    variant: chat
    seed: 0
    fields: {learning_rate: 1e-5}
"""

    repo: str | None = key(None, doc="repository with the modified weights; give this or `folder`")
    revision: str = key("main", doc="branch, tag or commit of the repository")
    folder: str | None = key(None, path="folder", doc="folder on this machine, in place of `repo`")
    subfolder: str = key("", doc="folder inside the repository or folder")
    base: BaseForm = key(marks=True, doc="the checkpoint that it was made from")
    variant: str = key(doc="name of the curve that the checkpoint joins")
    seed: int | None = key(None, doc="seed of the modification, where known")
    family: str | None = key(None, doc="what is compared across budgets; without it, the name of the base's repository")
    run: str | None = key(None, doc=_RUN)
    fields: dict[str, Any] = key(
        factory=dict, example="{epochs: 1}", doc="fields of the modification, which become columns of the results"
    )


@dataclass(frozen=True, kw_only=True)
class VariantForm(Form):
    """The long form of a variant, for seeds of its own."""

    steps: yaml.Node = key(marks=True, doc="the modifications in order, or one modification without a list")
    seeds: tuple[int, ...] | None = key(None, least=0, doc="seeds of this variant; without them, the study's seeds")
