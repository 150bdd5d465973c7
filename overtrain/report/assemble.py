"""Call the analysis on every curve of a study; the result is a set of frames that figures and page are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from overtrain.analysis.adjust import holm
from overtrain.report.comparisons import adjusted, compared
from overtrain.report.confounds import confounds
from overtrain.report.curves import fixed_curves, identity_curves
from overtrain.report.endpoints import Endpoint, endpoints, main_endpoints, told_apart
from overtrain.report.extras import checks, matched, shares, turned
from overtrain.report.published import measure
from overtrain.report.rates import distances, learning_rates, tuned_curves
from overtrain.report.scores import Scores
from overtrain.report.view import fields, grids, lines
from overtrain.report.win_rates import left_out, on_curves, win_rates
from overtrain.report.work import Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overtrain.report.view import Line

__all__ = ["Assembled", "assemble"]


@dataclass(frozen=True)
class Assembled:
    """Everything a report shows.

    Attributes:
        study: what the study's file says: ``name``, ``primary``, ``select``, ``plateau_margin``, ...
        cells: one row per cell.
        lines: the curves at fixed settings.
        tuned: the curves at tuned learning rates.
        endpoints: what is measured.
        frames: by name: ``curves``, ``verdicts``, ``trends``, ``rates``, ``optima``, ``slopes``, ``near``, ``distances``,
            ``distance_law``, ``transitions``, ``comparisons``, ``pairs``, ``published``, ``matched``, ``shares``, ``jitter``,
            ``halves``, ``sham``, ``confounds``, ``variants``, ``win_rates``; one that has no rows is not there.
        notes: what was left out and why.
    """

    study: Mapping[str, Any]
    cells: pd.DataFrame
    lines: list[Line]
    tuned: list[Line]
    endpoints: list[Endpoint]
    frames: dict[str, pd.DataFrame]
    notes: list[str]

    def frame(self, name: str) -> pd.DataFrame:
        """Return the frame called ``name``, without rows or columns where there is none."""
        return self.frames.get(name, pd.DataFrame())


def assemble(frame: pd.DataFrame, documents: pd.DataFrame, study: Mapping[str, Any] | None) -> Assembled:
    """Compute everything the report shows.

    Args:
        frame: the tidy frame of ``overtrain.results.frame.load_runs``.
        documents: the scores per document; without rows, standard errors cover seeds alone and say so.
        study: of `Assembled`; without it no primary comparison, and selection by ``validation_loss``.
    """
    about = dict(study or {})
    about.setdefault("name", str(frame["study"].iloc[0]) if "study" in frame.columns and len(frame) else "study")
    judged = win_rates(frame)
    left = left_out(frame, judged, about)
    frame = on_curves(frame)
    scores = Scores(frame.reset_index(drop=True), documents)
    found = told_apart(endpoints(frame, scores.scored), about.get("select") or {})
    work = Work(scores, lines(frame), found, about)
    work.add("win_rates", judged)
    work.notes += left
    identity_curves(work)
    learning_rates(work)
    distances(work)
    for endpoint in work.endpoints:
        _endpoint(work, endpoint)
        scores.forget()
        work.tuned.clear()
    adjusted(work)
    matched(work)
    confounds(work)
    work.add("variants", _variants(work))
    _holm(work)
    _left_out(work)
    return Assembled(
        study=about,
        cells=_cell_table(work),
        lines=work.lines,
        tuned=list(work.chosen),
        endpoints=work.endpoints,
        frames=work.frames,
        notes=list(dict.fromkeys(work.notes)),
    )


def _endpoint(work: Work, endpoint: Endpoint) -> None:
    """Everything about one endpoint; its scores are held in memory once."""
    fixed_curves(work, endpoint, main=endpoint.kind == "id" or endpoint in main_endpoints(work.endpoints))
    tuned_curves(work, endpoint)
    compared(work, endpoint)
    measure(work, endpoint)
    if endpoint.average:
        shares(work, endpoint)
    elif work.scores.scored and endpoint.metric == next((e.metric for e in work.endpoints if e.scale == "share"), None):
        turned(work, endpoint)
    if endpoint == work.endpoints[0]:
        checks(work, endpoint)


def _holm(work: Work) -> None:
    """Adjust the verdicts' rises for all curves together."""
    table = work.frames.get("verdicts")
    if table is not None:
        work.frames["verdicts"] = (
            holm(table, "p_rise").drop(columns="significant").rename(columns={"p_holm": "p_rise_holm"})
        )


def _left_out(work: Work) -> None:
    """Say why a section has nothing to show."""
    kinds = {line.kind for line in work.lines}
    reasons = {
        "No modified cells: the study holds base models alone.": kinds <= {"base"},
        "No noise was added, so Figure 3 is left out.": "noise" not in kinds,
        "Nothing was fine-tuned, so Figures 2 and 4 to 8 are left out.": not kinds & {"finetune", "other"},
        "No variant has several learning rates, so nothing is tuned: Figures 6 and 7 are left out.": "finetune" in kinds
        and not grids(work.lines),
        "The study names no primary comparison, so none is reported; name one under primary.": not work.study.get(
            "primary"
        ),
        "Transitions need an accuracy per document of a base and a fine-tuned model; the study has none.": "transitions"
        not in work.frames,
        "Variance shares need an average over benchmarks; the study has none.": not any(
            e.average for e in work.endpoints
        ),
        "No two checkpoints lie within 2% of each other's tokens, so jitter cannot be measured.": "jitter"
        not in work.frames,
    }
    work.notes += [reason for reason, holds in reasons.items() if holds]


def _cell_table(work: Work) -> pd.DataFrame:
    """Return one row per cell with the scores of every task and metric; a score that is missing is missing."""
    scores = work.scores
    own = [c for c in fields(scores.frame) if scores.cells[c].notna().any()]
    cells = scores.cells.drop(columns=[c for c in fields(scores.frame) if c not in own])
    wide = scores.frame.assign(column=scores.frame["task"] + ": " + scores.frame["metric"]).dropna(
        subset=["column", "value"]
    )
    values = wide.drop_duplicates(["cell_id", "column"]).set_index(["cell_id", "column"])["value"].unstack()  # noqa: PD010
    order = ["family", "run", "tokens", "variant", *[c for c in own if pd.api.types.is_numeric_dtype(cells[c])], "seed"]
    return cells.sort_values(order).merge(values, left_on="cell_id", right_index=True, how="left").drop(columns="cell")


def _variants(work: Work) -> pd.DataFrame:
    cells = work.scores.cells
    data = cells["data"].map(str) if "data" in cells.columns else ""
    table = cells.assign(data=data)[["family", "variant", "modification", "data"]]
    return table.drop_duplicates(["family", "variant"]).reset_index(drop=True)
