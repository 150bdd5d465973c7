"""What the parts of the assembly share: the study's curves, endpoints and scores, and the frames made so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overtrain.report.endpoints import Endpoint
    from overtrain.report.scores import Scores
    from overtrain.report.view import Line

__all__ = ["Work"]


@dataclass
class Work:
    """One report in the making.

    Attributes:
        scores: of the study.
        lines: the curves at fixed settings.
        endpoints: what is measured outside training.
        study: what the study's file says.
        chosen: the tuned curves, each with the selection metric of its cells.
        rates: `rate_table` of each tuned curve.
        tuned: the long form of tuned curves at their best rates, with what it lacks; kept for one endpoint.
        frames: made so far, by name.
        notes: one sentence per thing that was left out, with the reason.
    """

    scores: Scores
    lines: list[Line]
    endpoints: list[Endpoint]
    study: Mapping[str, Any]
    chosen: dict[Line, pd.DataFrame] = field(default_factory=dict)
    rates: dict[Line, pd.DataFrame] = field(default_factory=dict)
    tuned: dict[tuple[Line, Endpoint], tuple[pd.DataFrame, list[str]]] = field(default_factory=dict)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, frame: pd.DataFrame) -> None:
        """Append ``frame`` to the frame called ``name``."""
        if len(frame):
            old = self.frames.get(name)
            self.frames[name] = frame if old is None else pd.concat([old, frame], ignore_index=True)

    def note(self, *where: object, why: object) -> None:
        """Record that something was left out: where, and why."""
        self.notes.append(f"{', '.join(map(str, where))}: {str(why).rstrip('.')}.")
