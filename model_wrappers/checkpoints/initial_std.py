"""The standard deviation of each parameter at the start of pre-training: the scale of the noise in equation 1."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.checkpoints.families import FAMILIES, Family, family_of
from model_wrappers.errors import CheckpointError, ConfigError, close_match
from model_wrappers.generators import isolated_generators

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import torch
    from transformers import PreTrainedModel

    from model_wrappers.checkpoints.checkpoint import Checkpoint

__all__ = ["InitialStd", "initial_std_problem", "resolve_initial_std", "step0_checkpoint"]

SIDE_FILE = "init_std.json"


@dataclass(frozen=True)
class InitialStd:
    """Standard deviations at initialisation, and their source.

    Attributes:
        std: parameter name, as in ``model.named_parameters()`` (tied weights once) -> standard deviation, >= 0; 0 for
            norm gains, biases and other parameters that started constant.
        source: ``recorded``, ``step0:REVISION``, ``family:NAME`` or a number; for ``auto``, the source that was chosen.
        cited: the file, commit or publication that the deviations come from.
    """

    std: dict[str, float]
    source: str
    cited: str


def resolve_initial_std(source: str, model: PreTrainedModel, checkpoint: Checkpoint) -> InitialStd:
    """Return every parameter's standard deviation at initialisation.

    Args:
        source: one of

            - ``recorded``: ``init_std.json`` beside the weights, ``{"source": "...", "std": {name: float, ...}}``, with
              every parameter;
            - ``step0:REVISION``: measured on the untrained weights at this revision of the same repository (for a local
              checkpoint: a folder, or the name of a folder beside it);
            - ``family:NAME``: a published recipe (`families.FAMILIES`);
            - a number: for every parameter of two or more dimensions that is neither bias nor norm gain;
            - ``auto``: ``recorded`` if the file exists, else the family's recipe if the repository is known.
        model: the model to perturb; only names, shapes and config are read.
        checkpoint: the checkpoint of the model.

    Raises:
        ConfigError: the source is unknown, ``auto`` finds nothing, or the family's recipe does not fit the model.
        CheckpointError: ``init_std.json`` or the step-0 weights are missing, damaged or incomplete.

    Source: Springer et al. 2025, equation 1 and Appendix C.2.
    Deviation: OLMo and OLMo-2 draw from a normal distribution that is truncated at three deviations. They are given the
    deviation of the untruncated normal, as in their configurations; the truncated one is 1.3% smaller.
    """
    source = str(source).strip()
    kind, _, argument = source.partition(":")
    if source == "auto":
        return _auto(model, checkpoint)
    if source == "recorded":
        return _recorded(model, checkpoint)
    if kind == "step0" and argument:
        return _measured(argument, model, checkpoint)
    if kind == "family":
        return _published(argument, model)
    return _number(source, model)


def initial_std_problem(source: str, checkpoint: Checkpoint | None) -> str:
    """Return why `resolve_initial_std` would fail, as far as that is known without the model; else an empty text.

    Nothing is downloaded: of a checkpoint on the hub, files beside the weights are not asked for.

    Args:
        source: as there.
        checkpoint: as there; None for one that is still to be pre-trained, which records its deviations.
    """
    source = str(source).strip()
    kind, _, argument = source.partition(":")
    try:
        if kind == "family":
            _table_of(argument)
        elif kind == "step0" and argument:
            if checkpoint is not None:
                step0_checkpoint(argument, checkpoint)
        elif source not in {"auto", "recorded"}:
            _given(source)
        elif checkpoint is not None and checkpoint.is_local:
            _recorded_deviations(checkpoint, source)
    except (ConfigError, CheckpointError) as error:
        return str(error)
    return ""


def _auto(model: PreTrainedModel, checkpoint: Checkpoint) -> InitialStd:
    if checkpoint.side_file(SIDE_FILE) is not None:
        return _recorded(model, checkpoint)
    family = None if checkpoint.is_local else family_of(str(checkpoint.repo))
    if family is not None and family.initial_std is not None:
        return _published(family.name, model)
    raise _unknown(checkpoint, family)


def _unknown(checkpoint: Checkpoint, family: Family | None) -> ConfigError:
    hint = f" ({family.std_source})" if family is not None and family.std_source else ""
    return ConfigError(
        f"init_std=auto: the initial deviations of {checkpoint.repo} are unknown{hint}: no {SIDE_FILE} lies beside the "
        f"weights and no table covers the repository; {_choices()}"
    )


def _recorded(model: PreTrainedModel, checkpoint: Checkpoint) -> InitialStd:
    path, given, stated = _recorded_deviations(checkpoint)
    return InitialStd(_aligned(given, model, str(path)), "recorded", f"{SIDE_FILE}: {stated}")


def _recorded_deviations(checkpoint: Checkpoint, source: str = "recorded") -> tuple[Path, dict[str, float], str]:
    """Return ``init_std.json``, its deviations, and where it says that they come from."""
    path = checkpoint.side_file(SIDE_FILE)
    if path is None and source == "auto":
        raise _unknown(checkpoint, None)
    if path is None:
        raise CheckpointError(
            f"init_std=recorded: no {SIDE_FILE} beside the weights of {checkpoint.repo}; {_choices()}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        given = {name: _deviation(value) for name, value in content["std"].items()}
        stated = str(content.get("source", "not stated"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'{path} must be {{"source": "...", "std": {{"parameter name": number >= 0, ...}}}} ({error}); correct it '
            "or choose another init_std"
        ) from error
    return path, given, stated


def _deviation(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no deviation")
    return float(value)


def _published(name: str, model: PreTrainedModel) -> InitialStd:
    family = _table_of(name)
    return InitialStd(_table(family, model), f"family:{name}", family.std_source)


def _table_of(name: str) -> Family:
    tables = {f.name: f for f in FAMILIES.values() if f.initial_std is not None}
    if name not in tables:
        raise ConfigError(f"init_std=family:{name}: no such table{close_match(name, tables)}; {_choices()}")
    return tables[name]


def _table(family: Family, model: PreTrainedModel) -> dict[str, float]:
    assert family.initial_std is not None
    found = {name: family.initial_std(name, tuple(p.shape), model.config) for name, p in model.named_parameters()}
    unknown = [name for name, std in found.items() if std is None]
    if unknown:
        raise ConfigError(
            f"init_std=family:{family.name} does not fit a {type(model).__name__}: it says nothing of "
            f"{_some(unknown)}; {_choices()}"
        )
    return {name: std for name, std in found.items() if std is not None}


def _number(source: str, model: PreTrainedModel) -> InitialStd:
    std = _given(source)
    deviations = {name: 0.0 if _constant(name, p) else std for name, p in model.named_parameters()}
    return InitialStd(deviations, source, "given: every matrix alike; norm gains and biases 0")


def _given(source: str) -> float:
    try:
        std = float(source)
    except ValueError:
        known = ["auto", "recorded", *(f"family:{name}" for name in FAMILIES)]
        raise ConfigError(f"init_std={source!r} is unknown{close_match(source, known)}; {_choices()}") from None
    if not math.isfinite(std) or std <= 0:
        raise ConfigError(f"init_std={source}: a deviation must be a finite number above 0; {_choices()}")
    return std


def _constant(name: str, parameter: torch.Tensor) -> bool:
    *modules, last = name.split(".")
    return parameter.dim() < 2 or last == "bias" or any("norm" in module.lower() for module in modules[-1:])


def _measured(revision: str, model: PreTrainedModel, checkpoint: Checkpoint) -> InitialStd:
    start = step0_checkpoint(revision, checkpoint)
    given = _measure_files(start, {name: p.shape for name, p in model.named_parameters(remove_duplicate=False)})
    if not all(any(name in given for name in aliases) for aliases in _aliases(model).values()):
        given = _measure_loaded(start, model)  # files whose tensors transformers renames, e.g. Pythia's embed_out
    where = start.location() if start.is_local else f"{start.repo} at {start.revision} ({start.sha()})"
    return InitialStd(_aligned(given, model, where), f"step0:{revision}", f"measured on {where}")


def step0_checkpoint(revision: str, checkpoint: Checkpoint) -> Checkpoint:
    """Return the untrained checkpoint that ``init_std=step0:REVISION`` names.

    Args:
        revision: a revision of the same repository; for a local checkpoint, a folder or the name of a folder beside it.
        checkpoint: the checkpoint to perturb.

    Raises:
        CheckpointError: there is no such folder.
    """
    if not checkpoint.is_local:
        return replace(checkpoint, revision=revision, tokens=None)
    here = Path(checkpoint.location())
    for folder in (Path(revision).expanduser(), here.parent / revision):
        if folder.is_dir():
            return replace(checkpoint, repo=folder, tokens=None)
    raise CheckpointError(
        f"init_std=step0:{revision}: {here} is a local folder, so REVISION must be a folder too, and neither "
        f"{revision} nor {here.parent / revision} is one; {_choices()}"
    )


def _measure_files(start: Checkpoint, shapes: Mapping[str, torch.Size]) -> dict[str, float]:
    """Measure the tensors that ``shapes`` names. With safetensors, only one tensor at a time is in memory."""
    from model_wrappers.checkpoints.load_errors import loading

    found: dict[str, float] = {}
    for path in start.weight_paths():
        with loading("weights", start):
            for name, tensor in _tensors(path, shapes):
                _same_shape(name, tensor.shape, shapes[name], path)
                found[name] = _std(tensor)
    return found


def _same_shape(name: str, there: torch.Size, here: torch.Size, path: Path) -> None:
    if there != here:
        raise CheckpointError(
            f"{name} has shape {tuple(there)} in {path} and {tuple(here)} in the model; give the untrained revision of "
            "the same model"
        )


def _tensors(path: Path, wanted: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    import torch
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            for name in sorted(set(wanted).intersection(file.keys())):
                yield name, file.get_tensor(name)
        return
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__} and no tensors by name; convert it to safetensors"
        )
    for name in set(wanted).intersection(content):
        yield name, content[name]


def _measure_loaded(start: Checkpoint, model: PreTrainedModel) -> dict[str, float]:
    """Measure the model as transformers loads it. Parameters that transformers would initialise itself are left out."""
    from model_wrappers.checkpoints.load_errors import loading

    with isolated_generators(0), loading("weights", start):
        loaded, report = type(model).from_pretrained(
            start.location(), **start.load_kwargs(), dtype="auto", output_loading_info=True
        )
    absent = set(report["missing_keys"])
    return {
        name: _std(parameter.detach())
        for name, parameter in loaded.named_parameters(remove_duplicate=False)
        if name not in absent
    }


def _std(tensor: torch.Tensor) -> float:
    """Return the population deviation over all entries, in float32; exactly 0 for a constant tensor."""
    values = tensor.float()
    return 0.0 if values.min() == values.max() else float(values.std(correction=0))


def _aliases(model: PreTrainedModel) -> dict[str, list[str]]:
    """Return each parameter's name with every name of the same tensor: tied embeddings have two."""
    by_tensor: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        by_tensor.setdefault(id(parameter), []).append(name)
    return {names[0]: names for names in by_tensor.values()}


def _aligned(given: Mapping[str, float], model: PreTrainedModel, where: str) -> dict[str, float]:
    found, missing = {}, []
    for name, aliases in _aliases(model).items():
        known = [alias for alias in aliases if alias in given]
        if known:
            found[name] = given[known[0]]
        else:
            missing.append(name)
    if missing:
        raise CheckpointError(
            f"{where} says nothing of {len(missing)} of the model's {len(missing) + len(found)} parameters: "
            f"{_some(missing)}; name every parameter there (0 for what starts constant) or choose another init_std"
        )
    return found


def _choices() -> str:
    families = ", ".join(f"family:{f.name}" for f in FAMILIES.values() if f.initial_std is not None)
    return (
        f"choose init_std=auto, recorded ({SIDE_FILE} beside the weights), step0:REVISION (an untrained revision), "
        f"{families}, or a number such as 0.02"
    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
