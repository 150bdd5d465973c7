"""Modifications whose category has no section of its own, at fixed settings."""

from __future__ import annotations

from functools import cached_property

from overtrain.report.curves import BASE
from overtrain.report.fixed import FixedSettings
from overtrain.report.sections import all_sections

__all__ = ["Other"]


class Other(FixedSettings):
    """Curves of all other categories."""

    key = "other"
    title = "Other modifications"
    order = 60
    category = "other"
    what = "After other modifications"

    def shows(self, category: str) -> bool:
        """Return whether no other section shows this category."""
        return category != BASE and category not in self._shown_elsewhere

    @cached_property
    def _shown_elsewhere(self) -> set[str]:
        sections = [section for section in all_sections() if isinstance(section, FixedSettings)]
        return {section.category for section in sections} - {self.category}
