"""``overtrain validate``: the cells of a study, their cost, and the smallest effect that the study can detect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from overtrain.plan.costs import evaluation_tokens, generated_tokens, machine_for, parameters
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study, refuse
from overtrain.plan.located import checkpoint_of
from overtrain.plan.problems import study_problems, study_remarks
from overtrain.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model_wrappers.modifications.base import Cost
    from overtrain.plan.cells import Cell

__all__ = ["Detectable", "ValidationReport", "validate"]

_RESULT_BYTES = 3e5
_LARGE_RESULT_BYTES = 4e6  # the ten benchmarks: 35,000 documents with four metrics


@dataclass(frozen=True)
class Detectable:
    """The smallest effects that a variant's design detects with 80% power, in standard deviations between seeds (or runs).

    Attributes:
        variant: name of the variant.
        budgets: number of token budgets, of the family that has most.
        runs: number of pre-training runs.
        seeds: number of seeds of the modification.
        turn: detectable rise of the last budget above a plateau; None if nothing is repeated.
        comparison: detectable difference between the two budgets of the primary comparison; None if nothing is repeated.
    """

    variant: str
    budgets: int
    runs: int
    seeds: int
    turn: float | None
    comparison: float | None


@dataclass
class ValidationReport:
    """A study in numbers; see `sentences`.

    Attributes:
        study: the study that was read.
        cells: number of cells per variant.
        trained: number of cells that train.
        pretraining_tokens: tokens that the runs of all ladders train on.
        training_tokens: tokens of fine-tuning, over all cells.
        evaluation_tokens: tokens that are scored, over all cells.
        generated_tokens: tokens of answers, over all cells.
        flops: 6 x parameters x tokens for training, 2 x parameters x tokens for scoring.
        disk_bytes: downloads, results, and the largest amount of tuned weights that exist at one time.
        hours: time on one ``machine``.
        machine: name of the machine that ``hours`` assumes.
        assumption: the machine's assumed speed, in words.
        unknown: costs that the estimate leaves out, in words.
        detectable: smallest detectable effects, one entry per variant.
        remarks: what is worth knowing before anything is spent, such as seeds that cannot differ.
    """

    study: Study
    cells: dict[str, int]
    trained: int = 0
    pretraining_tokens: float = 0.0
    training_tokens: float = 0.0
    evaluation_tokens: float = 0.0
    generated_tokens: float = 0.0
    flops: float = 0.0
    disk_bytes: float = 0.0
    hours: float = 0.0
    machine: str = ""
    assumption: str = ""
    unknown: list[str] = field(default_factory=list)
    detectable: list[Detectable] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def cost(self) -> str:
        """Hours of one machine and bytes of disk, as text."""
        disk = (
            f"{self.disk_bytes / 1e9:,.0f} GB" if self.disk_bytes >= 2e9 else f"{max(1, self.disk_bytes / 1e6):,.0f} MB"
        )
        return f"{_hours(self.hours)} of one {self.machine}, {disk} of disk"

    def sentences(self) -> list[str]:
        """Return the report as lines of text."""
        s = self.study
        budgets = sorted({p.tokens for p in s.points})
        runs = _count(len({(p.family, p.run) for p in s.points}), "pre-training run")
        span = f"{len(budgets)} budgets from {_many(budgets[0])} to {_many(budgets[-1])} tokens"
        lines = [
            f"{s.name}: {sum(self.cells.values())} cells, {self.trained} of which train",
            f"checkpoints: {len(s.points)} of {runs}, {span}",
        ]
        for variant in s.variants:
            axes = ", ".join(f"{name} in {_values(values)}" for name, values in variant.axes.items()) or "no axis"
            count = self.cells.get(variant.name, 0)
            lines.append(f"variant {variant.name}: {count} cells; {axes}; seeds {_values(variant.seeds)}")
        tokens = (self.pretraining_tokens, self.training_tokens, self.evaluation_tokens)
        parts = zip(map(_many, tokens), ("pre-training", "fine-tuning", "scoring"), strict=True)
        said = [f"{number} of {what}" for number, what in parts]
        said += [f"{_many(self.generated_tokens)} of answers"] if self.generated_tokens else []
        lines.append(f"tokens: {', '.join(said)}")
        lines.append(f"cost: {self.cost} ({self.flops:.1e} FLOP; {self.assumption})")
        lines += [f"not counted: {text}" for text in self.unknown]
        lines += [f"note: {text}" for text in self.remarks]
        lines += [_seen(d) for d in self.detectable]
        if s.primary is None:
            lines.append("no primary comparison: name one (primary:) before the study runs")
        return lines


def validate(file: str | Path | Study) -> ValidationReport:
    """Read a study and estimate its cost. No model is loaded, and nothing is downloaded.

    Raises:
        ConfigError: the file has errors (all of them are named, each with its line), or a modification needs a file that is
            missing.
    """
    study = file if isinstance(file, Study) else load_study(file)
    cells = expand(study)
    refuse(study, study_problems(study))
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell.variant] = counts.get(cell.variant, 0) + 1
    report = ValidationReport(study, counts, remarks=study_remarks(study))
    unknown: dict[str, None] = {}
    _pretraining(report)
    for cell in cells:
        _add(report, cell, unknown)
    sizes = [size for p in study.points if (size := parameters(p)) is not None]
    machine = machine_for(sizes)
    report.machine, report.assumption = machine.name, machine.assumption
    generating = report.generated_tokens / machine.generated_per_second
    report.hours = (report.flops / machine.flops + machine.seconds_per_cell * len(cells) + generating) / 3600
    report.disk_bytes = _disk(report, cells, sizes)
    report.unknown = list(unknown)
    report.detectable = _detectable(study, cells)
    return report


def _pretraining(report: ValidationReport) -> None:
    for point in report.study.points:
        if point.ladder is not None:
            report.pretraining_tokens += point.tokens
            report.flops += 6 * (parameters(point) or 0.0) * point.tokens


def _add(report: ValidationReport, cell: Cell, unknown: dict[str, None]) -> None:
    size = parameters(cell.point)
    scored, unknown_tasks = evaluation_tokens(cell)
    unknown |= dict.fromkeys(f"scoring {task}" for task in unknown_tasks)
    if size is None:
        unknown[f"the size of {cell.point.label}"] = None
    costs = _costs(cell)
    unknown |= dict.fromkeys(cost.unknown for cost in costs if cost.unknown)
    report.trained += any(m.materialise for m in cell.modifications)
    report.training_tokens += sum(cost.tokens or 0.0 for cost in costs)
    report.evaluation_tokens += scored
    report.generated_tokens += generated_tokens(cell)
    report.flops += sum(cost.flops(size or 0.0) for cost in costs) + 2 * (size or 0.0) * scored


def _costs(cell: Cell) -> list[Cost]:
    where = None if cell.point.ladder is not None else checkpoint_of(cell.point)
    return [modification.cost(where) for modification in cell.modifications]


def _disk(report: ValidationReport, cells: Sequence[Cell], sizes: list[float]) -> float:
    """Return the bytes of downloads (4 per parameter), of results, and of the trained weights that are kept."""
    study = report.study
    per_parameter = max((cost.kept_bytes_per_parameter for cell in cells for cost in _costs(cell)), default=0.0)
    largest = per_parameter * max(sizes, default=0.0)
    downloads = sum(4 * (parameters(p) or 0.0) for p in study.points if not p.local)
    best = len(study.points) * max(1, len(study.variants))
    kept = min({"none": 1, "best": best, "all": report.trained}[study.keep_weights], report.trained)
    many = study.evaluation.limit is None and not {"overtrain_ten", "overtrain_core8"}.isdisjoint(study.tasks)
    return downloads + len(cells) * (_LARGE_RESULT_BYTES if many else _RESULT_BYTES) + largest * kept


def _detectable(study: Study, cells: Sequence[Cell]) -> list[Detectable]:
    import pandas as pd

    from overtrain.analysis.design import minimum_detectable_effect

    found = []
    families = {p.family for p in study.points}
    budgets = max((len({p.tokens for p in study.points if p.family == f}) for f in families), default=0)
    runs = max((len({p.run for p in study.points if p.family == f}) for f in families), default=1)
    for variant in study.variants:
        seeds = max(1, len({cell.seed for cell in cells if cell.variant == variant.name}))
        turn = comparison = None
        if budgets >= 2:
            # With several runs, the run is the repeated unit, so effects are in deviations between runs.
            spread: dict[str, Any] = {"run_sd": 1.0, "seed_sd": 0.0} if runs > 1 else {"seed_sd": 1.0}
            row = minimum_detectable_effect(budgets, seeds, runs=runs, **spread).iloc[0]
            turn, comparison = (None if pd.isna(value) else float(value) for value in (row["turn"], row["comparison"]))
        found.append(Detectable(variant.name, budgets, runs, seeds, turn, comparison))
    return found


def _seen(d: Detectable) -> str:
    design = f"variant {d.variant} ({_count(d.budgets, 'budget')}, {_count(d.runs, 'run')}, {_count(d.seeds, 'seed')})"
    if d.turn is None or d.comparison is None:
        return f"{design}: nothing is repeated, so nothing can be told from noise; give several seeds"
    unit = "standard deviations between pre-training runs" if d.runs > 1 else "standard deviations between seeds"
    end = "" if d.runs > 1 else "; one pre-training run, so no interval covers another"
    return (
        f"{design}: with 80% power it sees a last budget {d.turn:.1f} {unit} above a plateau, and a difference of "
        f"{d.comparison:.1f} between two budgets{end}"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _many(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _hours(hours: float) -> str:
    if hours < 0.95:
        return f"{hours * 60:.0f} minutes" if hours * 60 >= 2 else f"{hours * 3600:.0f} seconds"
    return f"{hours:,.0f} hours" if hours >= 10 else f"{hours:.1f} hours"


def _values(values: Sequence[Any]) -> str:
    return f"[{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)}]"
