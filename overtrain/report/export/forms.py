"""A study's results in the forms that others read: `every_eval_ever`, lm-eval's results folder, AlpacaEval's files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from model_wrappers.errors import ConfigError, StoreError
from model_wrappers.files import write_whole
from overtrain.report.files import slug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FORMS", "Exported", "Form", "export"]

Form = Literal["every_eval_ever", "lm_eval", "alpaca_eval"]
FORMS: tuple[Form, ...] = ("every_eval_ever", "lm_eval", "alpaca_eval")


@dataclass(frozen=True)
class Exported:
    """A finished cell, as both forms need it.

    Attributes:
        study: its name.
        entry: the cell's labels and identities in the study.
        results: lm-eval's.
        rows: its metrics, one row per task and metric.
        finished: seconds since the epoch.
    """

    study: str
    entry: dict[str, Any]
    results: dict[str, Any]
    rows: list[dict[str, Any]]
    finished: float

    @property
    def about(self) -> dict[str, Any]:
        """What our models add to lm-eval's configuration."""
        return dict(self.results.get("config", {}).get("overtrain", {}))

    @property
    def developer(self) -> str:
        """Organisation of the repository; ``local`` for a folder."""
        return _part(self._repo[0])

    @property
    def model(self) -> str:
        """Name of what was evaluated: a revision or a modification of a model never carries the model's own name."""
        parts = [self._repo[1]]
        revision = self.about.get("checkpoint", {}).get("revision")
        if revision not in {None, "", "main"}:
            parts.append(str(revision))
        if self.entry["modification"] != "base":
            parts += [str(self.entry["variant"]), str(self.entry["weights_id"] or self.entry["cell_id"])[:8]]
        return _part("-".join(parts))

    @property
    def _repo(self) -> tuple[str, str]:
        repo = str(self.about.get("checkpoint", {}).get("repo") or self.entry["checkpoint"])
        if self.hub:
            owner, _, name = repo.partition("/")
            return owner, name
        return "local", f"{self.entry['family']}-{self.entry['run']}-{self.entry['tokens']}"

    @property
    def hub(self) -> bool:
        """Whether the checkpoint is a repository of the hub, not a folder."""
        repo = str(self.about.get("checkpoint", {}).get("repo") or "")
        return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", repo)) and "@" in str(self.entry["checkpoint"])


def export(run_folder: Path, out: Path | None = None, *, form: Form, organization: str = "unknown") -> Path:
    """Write every finished cell of a study in another form; return the folder.

    - ``every_eval_ever``: ``data/<study>/<developer>/<model>/<uuid>.json``, schema 0.3.0, one record per cell;
    - ``lm_eval``: ``<developer>__<model>/results_<time>.json``, lm-eval's own results as leaderboard tooling reads them;
    - ``alpaca_eval``: ``<group>/<cell>/model_outputs.json`` and ``annotations.json`` of every judged cell, per group
      ``reference_outputs.json`` and ``leaderboard.csv``, and ``evaluator/`` for ``alpaca_eval --annotators_config``.

    The same cell always has the same path. Model and benchmark text is in the last one alone.

    Args:
        run_folder: ``runs/<study>``.
        out: where to write; ``<run_folder>/export/<form>`` by default.
        form: see above.
        organization: who ran the study, for ``every_eval_ever``.

    Raises:
        ConfigError: no such form.
        StoreError: there is no study in the folder, none of its cells is finished, or a file is damaged.
    """
    from overtrain.report.export.every_eval import record
    from overtrain.report.export.lm_eval import results

    if form not in FORMS:
        raise ConfigError(f"form={form!r}: must be one of {', '.join(FORMS)}; give one of them")
    folder = out or run_folder / "export" / form
    if form == "alpaca_eval":
        from overtrain.report.export.alpaca_eval import write_alpaca_eval

        if not write_alpaca_eval(run_folder, folder):
            raise StoreError(f"{run_folder} has no judged cell; run `overtrain judge {run_folder}` first, then export")
        return folder
    written = 0
    for cell in _finished(run_folder):
        path, content = record(cell, organization) if form == "every_eval_ever" else results(cell)
        write_whole(folder / path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        written += 1
    if not written:
        raise StoreError(f"{run_folder} has no finished cell; run `overtrain sweep` first, then export")
    return folder


def _finished(run_folder: Path) -> Iterator[Exported]:
    from overtrain.common.typed_json import to_json
    from overtrain.results.frame import load_study
    from overtrain.results.store import Store

    study, store = load_study(run_folder), Store(run_folder)
    for cell in study.cells:
        cell_id = cell.cell_id
        state = store.state(cell_id) if cell_id else None
        if cell_id and state is not None and state.status == "done":
            yield Exported(
                study=study.name,
                entry=to_json(cell),
                results=json.loads(store.read(cell_id, "results.json")),
                rows=json.loads(store.read(cell_id, "metrics.json")),
                finished=state.finished,
            )


def _part(name: str) -> str:
    """Return one part of a path; a name of dots alone, or with a separator, cannot leave its folder."""
    return slug(name)
