"""What a study selects at every checkpoint, usually the learning rate: the selected values, and the scores of their cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from model_wrappers.errors import DataError
from overtrain.analysis.crossfit import cross_fitted
from overtrain.analysis.optima import rate_table
from overtrain.analysis.tuned import at_tuned_rates
from overtrain.analysis.verdict import format_tokens
from overtrain.report.curves import number, tuned_curves
from overtrain.report.measures import selection_measure
from overtrain.report.scores import SELECTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.report.curves import Curve
    from overtrain.report.measures import Measure
    from overtrain.report.scores import StudyScores
    from overtrain.study.settings import Selection

__all__ = ["SelectedValues"]


class SelectedValues:
    """The values that the study selects, by curve.

    Attributes:
        measure: the metric that selects.
        how: the way in which win rates select, ``cross_fit`` or ``reported``; None where another metric selects.
        metric: per tuned curve the selection metric of its cells (`StudyScores.training`), oriented: lower is better.
        rates: per tuned curve `overtrain.analysis.optima.rate_table`.
        reasons: per tuned curve without any selection metric, why nothing is selected.
    """

    def __init__(self, scores: StudyScores, found: Sequence[Curve], select: Selection) -> None:
        self._scores = scores
        self.measure = selection_measure(scores.frame, select)
        self.how: str | None = None if select.how == "metric" else select.how
        self.metric: dict[Curve, pd.DataFrame] = {}
        self.rates: dict[Curve, pd.DataFrame] = {}
        self.reasons: dict[Curve, str] = {}
        self._kept: dict[tuple[Curve, Measure], tuple[pd.DataFrame, list[str]]] = {}
        for curve in tuned_curves(found):
            table = self.of(curve)
            if table["value"].notna().any():
                self.metric[curve], self.rates[curve] = table, rate_table(table)
            else:
                remedy = "run `overtrain judge`" if self.how else "set validation_fraction"
                self.reasons[curve] = (
                    f"no cell has {self.measure.metric}, so no {_name(curve)} is selected and the tuned curve is left out; "
                    f"{remedy}, or name another metric under select"
                )

    @property
    def curves(self) -> list[Curve]:
        """The tuned curves: those for which a value is selected."""
        return list(self.metric)

    def of(self, curve: Curve) -> pd.DataFrame:
        """Return the selection metric of a curve's cells, oriented: lower is better."""
        table = self._scores.training(curve, self.measure.metric, self.measure.tasks[0])
        return table.assign(value=-table["value"]) if self.measure.higher_is_better else table

    def fixed(self, curve: Curve) -> pd.DataFrame:
        """Return the selection metric of a curve at fixed settings in the long form.

        Raises:
            DataError: no cell has the metric.
        """
        table = self.of(curve)
        if not table["value"].notna().any():
            raise DataError(f"no cell has {self.measure.metric}, so there is no in-distribution curve")
        return _as_long(table).drop(columns=SELECTED)

    def candidates(self, curve: Curve, measure: Measure) -> pd.DataFrame:
        """Return the scores, in the long form, of all cells that a tuned curve is selected from.

        Where win rates select, seeds without any are left out: what selects and what is reported are the same models.
        """
        if measure.selects:
            return _as_long(self.metric[curve])
        long = self._scores.long(curve, measure)
        if self.how is None:
            return long
        keys = ["budget", "run", "seed"]
        known = _index(self.metric[curve][keys].drop_duplicates())
        return long[_index(long[keys]).isin(known)]

    def cross_fits(self, measure: Measure) -> bool:
        """Return whether ``measure`` is reported on the half of the instructions that does not select."""
        return not measure.outside and self.how == "cross_fit"

    def selected(self, curve: Curve, measure: Measure) -> tuple[pd.DataFrame, list[str]]:
        """Return a tuned curve's scores at the selected values, and in words what was not considered.

        Raises:
            DataError: at no checkpoint has a value the complete selection metric.
        """
        if (curve, measure) not in self._kept:
            found = self._at_best(curve, self.candidates(curve, measure))
            if self.cross_fits(measure):
                long = self.candidates(curve, measure)
                found = cross_fitted(long[long["budget"].isin(set(found[0]["budget"]))]), found[1]
            self._kept[curve, measure] = found
        return self._kept[curve, measure]

    def forget(self) -> None:
        """Drop the scores that were kept; call it between measures."""
        self._kept.clear()

    def _at_best(self, curve: Curve, long: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        rates, name = self.rates[curve], _name(curve)
        complete = set(rates.loc[rates["best"], "budget"])
        lost = sorted(set(long["budget"].unique()) - complete)
        notes = [f"{format_tokens(b)}: no {name} has every seed's selection metric, so none is selected" for b in lost]
        partial = rates[(rates["n_missing"] > 0) & rates["budget"].isin(complete)]
        for budget in sorted(set(partial["budget"])):
            left = ", ".join(number(r) for r in sorted(set(partial.loc[partial["budget"] == budget, SELECTED])))
            notes.append(f"{format_tokens(budget)}: {name} {left} not considered, cells missing")
        kept = long[long["budget"].isin(complete)]
        if kept.empty:
            raise DataError(f"no checkpoint has a {name} with a complete selection metric; run the missing cells")
        # Given the best rates alone, the analysis has nothing left to choose, and a hundred times less to do.
        best = self.metric[curve].merge(rates.loc[rates["best"], ["budget", "run", SELECTED]])
        return at_tuned_rates(kept, best), notes


def _name(curve: Curve) -> str:
    """Return the name of what is selected, e.g. ``learning rate``."""
    assert curve.axis is not None
    return curve.axis.label


def _as_long(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"value": "y"}).assign(document=None, weight=1.0)


def _index(cells: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(cells.assign(seed=cells["seed"].astype("Int64").fillna(-1)))
