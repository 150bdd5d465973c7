"""The tuned learning rate of every checkpoint, and how it moves with tokens (paper, Section 3.4.2, Figures 6 and 7).

Selection is by held-out loss of the fine-tuning data, or another in-distribution metric on its validation part; never by
the documents that are reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from overtrain.analysis.long import per_group, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Array

__all__ = ["Regime", "optimum_slope", "over_near_rates", "rate_table", "regime", "tuned_rates"]

Regime = Literal["constant", "slowly decreasing", "quickly decreasing", "increasing", "undetermined"]

_CONSTANT, _QUICK = 0.1, 0.5


def rate_table(selection: pd.DataFrame, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Average the selection metric of every checkpoint and rate, and mark the rates within one standard error.

    Args:
        selection: ``budget``, ``run``, ``seed``, ``learning_rate``, ``value`` (lower is better; missing where a cell is).
        by: columns that name a curve.

    Returns:
        One row per group, budget, run and rate: ``mean``, ``n_seeds``, ``n_missing``, ``se`` (of a rate's mean: variance
        between seeds within a rate, pooled over the checkpoint's rates, after removing what a seed adds at every rate
        where rates share seeds; missing with one seed), ``best`` and ``near`` (mean at most the best rate's plus one
        standard error of their difference). A rate that lacks a seed which another has is neither.
    """
    require(selection, ["budget", "run", "seed", "learning_rate", "value"])

    def one(part: pd.DataFrame) -> pd.DataFrame:
        tables = []
        for _, checkpoint in part.groupby(["budget", "run"], sort=True):
            table = _rates(checkpoint)
            names = checkpoint[["budget", "run"]].head(1)
            tables.append(names.merge(table, how="cross"))
        return pd.concat(tables, ignore_index=True)

    return per_group(selection, by, one)


def _rates(checkpoint: pd.DataFrame) -> pd.DataFrame:
    data = checkpoint.assign(seed=checkpoint["seed"].astype("Int64").fillna(-1))
    square = data.set_index(["learning_rate", "seed"])["value"].unstack().sort_index()  # noqa: PD010
    values = square.to_numpy(float)
    whole = np.isfinite(values).all(axis=1)
    mean = np.where(whole, values.sum(axis=1) / values.shape[1], np.nan)
    rates, seeds = int(whole.sum()), values.shape[1]
    error = np.nan
    if seeds > 1 and rates > 1:
        left = values[whole] - values[whole].mean(axis=1, keepdims=True)
        left = left - left.mean(axis=0)
        error = float(np.sqrt((left**2).sum() / ((rates - 1) * (seeds - 1)) / seeds))
    best = np.zeros(len(values), bool)
    if rates:
        best[int(np.nanargmin(mean))] = True
    lowest = mean[best][0] if rates else np.nan
    reach = np.sqrt(2) * error if np.isfinite(error) else 0.0
    return pd.DataFrame(
        {
            "learning_rate": square.index.to_numpy(float),
            "mean": mean,
            "se": error,
            "n_seeds": np.isfinite(values).sum(axis=1),
            "n_missing": (~np.isfinite(values)).sum(axis=1),
            "best": best,
            "near": whole & (mean <= lowest + reach),
        }
    )


def tuned_rates(selection: pd.DataFrame, level: float = 0.05, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Return the best learning rate of every checkpoint and its log-quadratic optimum.

    Args:
        selection: as for `rate_table`.
        level: one minus the confidence of the optimum's interval.
        by: columns that name a curve.

    Returns:
        One row per group, budget and run: ``learning_rate`` (best on the grid), ``value``, ``near_low`` and ``near_high``
        (range of the rates within one standard error), ``at_edge`` (the best rate is the grid's smallest or largest: the
        optimum may lie outside), ``optimum`` (minimum of the quadratic in log rate, fitted to the means; missing where the
        parabola opens downwards or its minimum lies outside the grid), ``optimum_low`` and ``optimum_high`` (Fieller's
        interval from the larger of the variance between seeds and the residuals of the fit; missing where the data do not
        bound it), ``log2_se`` (delta method), ``n_seeds``,
        ``n_missing`` (cells).
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        table = rate_table(part)
        rows = []
        for (budget, run), rates in table.groupby(["budget", "run"], sort=True):
            rows.append({"budget": budget, "run": run, **_optimum(rates, level)})
        return pd.DataFrame(rows)

    return per_group(selection, by, one)


def _optimum(rates: pd.DataFrame, level: float) -> dict[str, object]:
    used = rates.dropna(subset=["mean"])
    row: dict[str, object] = dict.fromkeys(
        [
            "learning_rate",
            "value",
            "near_low",
            "near_high",
            "at_edge",
            "optimum",
            "optimum_low",
            "optimum_high",
            "log2_se",
        ],
        np.nan,
    )
    row |= {"at_edge": pd.NA, "n_seeds": int(rates["n_seeds"].max()), "n_missing": int(rates["n_missing"].sum())}
    if used.empty:
        return row
    grid, near = used["learning_rate"], used.loc[used["near"], "learning_rate"]
    best = used.loc[used["best"]].iloc[0]
    row |= {
        "learning_rate": float(best["learning_rate"]),
        "value": float(best["mean"]),
        "near_low": float(near.min()),
        "near_high": float(near.max()),
        "at_edge": bool(best["learning_rate"] in {grid.min(), grid.max()}),
    }
    x, y = np.log2(grid.to_numpy(float)), used["mean"].to_numpy(float)
    fit = _parabola(x, y, float(used["se"].iloc[0]), int(row["n_seeds"]))  # type: ignore[call-overload]
    if fit is None or not x.min() <= fit.minimum <= x.max():
        return row
    low, high = fit.interval(level)
    return row | {"optimum": float(2**fit.minimum), "optimum_low": low, "optimum_high": high, "log2_se": fit.error}


class _Parabola(NamedTuple):
    """Least-squares parabola in log2 rate about ``middle``: coefficients, their covariance, its degrees of freedom."""

    middle: float
    linear: float
    quadratic: float
    covariance: Array
    freedom: float

    @property
    def minimum(self) -> float:
        return self.middle - self.linear / (2 * self.quadratic)

    @property
    def error(self) -> float:
        gradient = np.array([-1 / (2 * self.quadratic), self.linear / (2 * self.quadratic**2)])
        return float(np.sqrt(gradient @ self.covariance @ gradient))

    def interval(self, level: float) -> tuple[float, float]:
        """Return Fieller's interval of the minimum as learning rates; NaN where the data do not bound it."""
        if not self.freedom > 0:
            return np.nan, np.nan
        squared = float(stats.t.ppf(1 - level / 2, self.freedom)) ** 2
        (v11, v12), (_, v22) = self.covariance
        a = 4 * (self.quadratic**2 - squared * v22)
        b = 4 * (self.linear * self.quadratic - squared * v12)
        c = self.linear**2 - squared * v11
        if a <= 0:
            return np.nan, np.nan
        root = np.sqrt(max(b**2 - 4 * a * c, 0.0))
        with np.errstate(over="ignore", under="ignore"):
            low, high = (float(np.exp2(self.middle + (-b + sign * root) / (2 * a))) for sign in (-1, 1))
        return low, high


def _parabola(x: Array, y: Array, error: float, seeds: int) -> _Parabola | None:
    """Fit the parabola to the means ``y``; None with fewer than three rates or where it opens downwards."""
    if len(x) < 3:
        return None
    middle = float(x.mean())
    design = np.column_stack([np.ones(len(x)), x - middle, (x - middle) ** 2])
    fitted = np.linalg.lstsq(design, y, rcond=None)[0]
    if fitted[2] <= 0:
        return None
    left = y - design @ fitted
    freedom = float(len(x) - 3)
    variance = float(left @ left) / freedom if freedom > 0 else np.nan
    if np.isfinite(error) and not error**2 < variance:
        # Means leave the parabola by seed noise and by its own misfit: the larger of the two counts.
        variance, freedom = error**2, float((len(x) - 1) * (seeds - 1))
    covariance = np.linalg.inv(design.T @ design)[1:, 1:] * variance
    return _Parabola(middle, float(fitted[1]), float(fitted[2]), covariance, freedom)


def optimum_slope(rates: pd.DataFrame, level: float = 0.05, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Fit log2 of the optimal learning rate against log2 of tokens and read Figure 7's regime from the slope.

    Least squares over checkpoints, with a t interval from their scatter about the line. A checkpoint whose best rate is
    the grid's edge, or that has no optimum inside the grid, says only "not inside": it is left out and counted, because
    the edge itself would pull the slope to 0.

    Args:
        rates: of `tuned_rates`.
        level: one minus the confidence.
        by: columns that name a curve.

    Returns:
        One row per group: ``slope`` (doublings of the rate per doubling of tokens), ``low``, ``high``, ``regime`` (see
        `regime`), ``n_checkpoints`` (used), ``n_at_edge`` (left out). The slope is missing with fewer than three.
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        edge = part["at_edge"].astype("boolean").fillna(True).to_numpy(bool) | part["optimum"].isna().to_numpy(bool)
        used = part[~edge]
        slope = low = high = np.nan
        x, y = np.log2(used["budget"].to_numpy(float)), np.log2(used["optimum"].to_numpy(float))
        if len(used) >= 3 and np.ptp(x) > 0:
            fit = stats.linregress(x, y)
            width = float(stats.t.ppf(1 - level / 2, len(used) - 2) * fit.stderr)
            slope = float(fit.slope)
            low, high = slope - width, slope + width
        return pd.DataFrame(
            {
                "slope": [slope],
                "low": [low],
                "high": [high],
                "regime": [regime(low, high)],
                "n_checkpoints": [len(used)],
                "n_at_edge": [int(edge.sum())],
            }
        )

    require(rates, ["budget", "optimum", "at_edge"])
    return per_group(rates, by, one)


def regime(low: float, high: float, constant: float = _CONSTANT, quick: float = _QUICK) -> Regime:
    """Read an interval of the slope as one of Figure 7's regimes.

    The paper draws three regimes without numbers; the limits are ours: within 0.1 of 0 (7% per doubling of tokens) is
    constant, a fall of at least 0.5 (30% per doubling) is quick. The whole interval must lie in a regime; otherwise, and
    without an interval, it is undetermined.

    >>> regime(-0.05, 0.08), regime(-0.4, -0.15), regime(-1.2, -0.6), regime(-0.6, 0.1)
    ('constant', 'slowly decreasing', 'quickly decreasing', 'undetermined')
    """
    if -constant <= low and high <= constant:
        return "constant"
    if high <= -quick:
        return "quickly decreasing"
    if -quick <= low and high < 0:
        return "slowly decreasing"
    if low > 0:
        return "increasing"
    return "undetermined"


def over_near_rates(selection: pd.DataFrame, target: pd.DataFrame, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Show another metric (out of distribution) over all learning rates that selection cannot tell from the best.

    Args:
        selection: as for `rate_table`.
        target: ``budget``, ``run``, ``learning_rate``, ``value``: the other metric, one row per cell.
        by: columns that name a curve, in both frames.

    Returns:
        One row per group, budget and run: ``learning_rate`` (best), ``value`` (mean at the best rate), ``low`` and ``high``
        (smallest and largest mean over the rates within one standard error), ``n_near``, ``n_missing`` (cells of those
        rates without a value; such a rate has no mean).
    """
    require(target, [*by, "budget", "run", "learning_rate", "value"])
    rates = rate_table(selection, by=by)
    near = rates[rates["near"]]
    keys = [*by, "budget", "run", "learning_rate"]
    cells = target.groupby(keys, dropna=False)["value"].agg(
        value=lambda v: v.mean(skipna=False), missing=lambda v: int(v.isna().sum())
    )
    joined = near.merge(cells.reset_index(), on=keys, how="left")
    joined["missing"] = joined["missing"].fillna(1)
    rows = []
    for key, part in joined.groupby([*by, "budget", "run"], sort=True, dropna=False):
        best = part[part["best"]].iloc[0]
        rows.append(
            {
                **dict(zip([*by, "budget", "run"], key, strict=True)),
                "learning_rate": best["learning_rate"],
                "value": best["value"],
                "low": part["value"].min(),
                "high": part["value"].max(),
                "n_near": len(part),
                "n_missing": int(part["missing"].sum()),
            }
        )
    return pd.DataFrame(rows)
