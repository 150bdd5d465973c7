"""Figure 3: noise at fixed settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.fixed import FixedSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData

__all__ = ["Noise"]


class Noise(FixedSettings):
    """Curves of checkpoints with noise on their weights."""

    key = "noise"
    title = "Noise"
    order = 40
    category = "noise"
    what = "After noise"
    number = "Figure 3"

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that no noise was added."""
        if not any(self.shows(curve.category) for curve in data.curves):
            yield "No noise was added, so Figure 3 is left out."
