"""What a simulated study is, and which bars its outcomes must keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["BARS", "SIMULATIONS", "Bar", "Outcomes", "Scenario", "Study"]

SIMULATIONS = 2_000
"""Simulated null curves behind a critical value in these studies; a report uses ten times as many."""

BARS: Mapping[str, tuple[float, float]] = {
    "false finding": (0.0, 0.055),
    "coverage": (0.93, 0.97),
    "coverage, at least": (0.93, 1.0),
    "optimum": (0.90, 1.0),
    "power, at least half": (0.5, 1.0),
    "never": (0.0, 0.0),
    "power": (0.0, 1.0),
    "share": (0.0, 1.0),
}
"""Lowest and highest share of studies of each kind of line; power and share are shown without a bar."""

Outcomes = dict[str, bool]
"""Which outcomes a study had; an outcome that a study does not have, such as an interval that is missing, is left out."""

Study = Callable[[np.random.Generator], Outcomes]


@dataclass(frozen=True)
class Bar:
    """One line of the table.

    Attributes:
        outcome: whose share of studies it is.
        kind: of `BARS`.
        what: in words.
    """

    outcome: str
    kind: str
    what: str


@dataclass(frozen=True)
class Scenario:
    """Studies of one truth and design.

    Attributes:
        name: unique; it seeds the studies.
        study: simulates and analyses one study.
        bars: on its outcomes.
    """

    name: str
    study: Study
    bars: tuple[Bar, ...]
