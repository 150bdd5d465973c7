"""Figures 4 and 5: fine-tuning at fixed settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overtrain.report.fixed import FixedSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.report.data import ReportData

__all__ = ["Finetune"]


class Finetune(FixedSettings):
    """Curves of checkpoints that were fine-tuned."""

    key = "finetune"
    title = "Fine-tuning at fixed learning rates"
    order = 50
    category = "finetune"
    what = "After fine-tuning at a fixed learning rate"
    number = "Figures 4 and 5"

    def missing(self, data: ReportData) -> Iterator[str]:
        """Say that nothing was fine-tuned."""
        if all(curve.base or curve.category == "noise" for curve in data.curves):
            yield "Nothing was fine-tuned, so Figures 2 and 4 to 8 are left out."
