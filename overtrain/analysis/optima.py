"""The tuned learning rate of every checkpoint, and how it moves with tokens (paper, Section 3.4.2, Figures 6 and 7).

Selection is by held-out loss of the fine-tuning data, or another in-distribution metric on its validation part; never by
the documents that are reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from overtrain.analysis.long import per_group, require
from overtrain.analysis.valley_floor import minimum_range, vertex

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Regime", "optimum_slope", "over_near_rates", "rate_table", "regime", "tuned_rates"]

Regime = Literal["constant", "slowly decreasing", "quickly decreasing", "increasing", "undetermined"]

_CONSTANT, _QUICK = 0.1, 0.5

_GRID_SHARE = 0.12
"""Standard deviation, in grid steps, of what the local parabola misses depending on the optimum's place in the grid."""


def rate_table(selection: pd.DataFrame, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Average the selection metric of every checkpoint and rate, and mark the rates within one standard error.

    Args:
        selection: ``budget``, ``run``, ``seed``, ``rate``, ``value`` (lower is better; missing where a cell is,
            infinite where it diverged).
        by: columns that name a curve.

    Returns:
        One row per group, budget, run and rate: ``mean``, ``n_seeds``, ``n_missing``, ``se`` (of a rate's mean: variance
        between seeds within a rate, pooled over the checkpoint's rates, after removing what a seed adds at every rate
        where rates share seeds; missing with one seed), ``best`` and ``near`` (mean at most the best rate's plus one
        standard error of their difference), ``n_diverged``. A rate that lacks a seed which another has is neither; nor is
        one with a diverged cell, whose mean is infinite.
    """
    require(selection, ["budget", "run", "seed", "rate", "value"])

    def one(part: pd.DataFrame) -> pd.DataFrame:
        tables = []
        for _, checkpoint in part.groupby(["budget", "run"], sort=True):
            table = _rates(_square(checkpoint))
            names = checkpoint[["budget", "run"]].head(1)
            tables.append(names.merge(table, how="cross"))
        return pd.concat(tables, ignore_index=True)

    return per_group(selection, by, one)


def _square(checkpoint: pd.DataFrame) -> pd.DataFrame:
    """Return the selection metric of one checkpoint, one row per rate, ascending, one column per seed."""
    data = checkpoint.assign(seed=checkpoint["seed"].astype("Int64").fillna(-1))
    return data.set_index(["rate", "seed"])["value"].unstack().sort_index()  # noqa: PD010


def _rates(square: pd.DataFrame) -> pd.DataFrame:
    values = square.to_numpy(float)
    known, whole = ~np.isnan(values).any(axis=1), np.isfinite(values).all(axis=1)
    mean = np.where(whole, np.where(whole[:, None], values, 0.0).mean(axis=1), np.where(known, np.inf, np.nan))
    rates, seeds = int(whole.sum()), values.shape[1]
    error = np.nan
    if seeds > 1 and rates > 1:
        left = values[whole] - values[whole].mean(axis=1, keepdims=True)
        left = left - left.mean(axis=0)
        error = float(np.sqrt((left**2).sum() / ((rates - 1) * (seeds - 1)) / seeds))
    best = np.zeros(len(values), bool)
    if rates:
        best[int(np.where(whole, mean, np.inf).argmin())] = True
    lowest = mean[best][0] if rates else np.nan
    reach = np.sqrt(2) * error if np.isfinite(error) else 0.0
    return pd.DataFrame(
        {
            "rate": square.index.to_numpy(float),
            "mean": mean,
            "se": error,
            "n_seeds": np.isfinite(values).sum(axis=1),
            "n_missing": np.isnan(values).sum(axis=1),
            "n_diverged": np.isinf(values).sum(axis=1),
            "best": best,
            "near": whole & (mean <= lowest + reach),
        }
    )


def tuned_rates(selection: pd.DataFrame, level: float = 0.05, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Return the best learning rate of every checkpoint and where its optimum lies between the grid's rates.

    Args:
        selection: as for `rate_table`.
        level: one minus the confidence of the optimum's interval.
        by: columns that name a curve.

    Returns:
        One row per group, budget and run: ``rate`` (best on the grid), ``value``, ``near_low`` and ``near_high``
        (range of the rates within one standard error), ``at_edge`` (the best rate is the grid's smallest or largest: the
        optimum may lie outside), ``optimum`` (minimum of the parabola in log rate through the best rate and its two
        neighbours; missing at the edge), ``optimum_low`` and ``optimum_high`` (see
        `overtrain.analysis.valley_floor.minimum_range`; missing with one seed, and where the grid does not bound it),
        ``grid_step`` (log2 of the distance between the neighbours of the best rate, halved), ``n_seeds``, ``n_missing`` and
        ``n_diverged`` (cells).
    """

    def one(part: pd.DataFrame) -> pd.DataFrame:
        rows = []
        for (budget, run), checkpoint in part.groupby(["budget", "run"], sort=True):
            rows.append({"budget": budget, "run": run, **_optimum(_square(checkpoint), level)})
        return pd.DataFrame(rows)

    require(selection, ["budget", "run", "seed", "rate", "value"])
    return per_group(selection, by, one)


def _optimum(square: pd.DataFrame, level: float) -> dict[str, object]:
    rates = _rates(square)
    row: dict[str, object] = dict.fromkeys(
        [
            "rate",
            "value",
            "near_low",
            "near_high",
            "at_edge",
            "optimum",
            "optimum_low",
            "optimum_high",
            "grid_step",
        ],
        np.nan,
    )
    row |= {
        "at_edge": pd.NA,
        "n_seeds": int(rates["n_seeds"].max()),
        "n_missing": int(rates["n_missing"].sum()),
        "n_diverged": int(rates["n_diverged"].sum()),
    }
    used = rates.dropna(subset=["mean"])
    if not used["best"].any():
        return row
    grid, near = used["rate"].to_numpy(float), used.loc[used["near"], "rate"]
    place = int(np.flatnonzero(used["best"])[0])
    edge = place in {0, len(grid) - 1}
    row |= {
        "rate": grid[place],
        "value": float(used["mean"].iloc[place]),
        "near_low": float(near.min()),
        "near_high": float(near.max()),
        "at_edge": edge,
    }
    x, cells = np.log2(grid), square.to_numpy(float)[rates["mean"].notna().to_numpy()]
    if cells.shape[1] > 1 and len(grid) > 2:
        low, high = minimum_range(x, cells, level)
        row |= {"optimum_low": float(2**low), "optimum_high": float(2**high)}
    if not edge:
        row |= {
            "optimum": float(2 ** vertex(x[place - 1 : place + 2], cells[place - 1 : place + 2].mean(axis=1))),
            "grid_step": float(x[place + 1] - x[place - 1]) / 2,
        }
    return row


def optimum_slope(rates: pd.DataFrame, level: float = 0.05, *, by: Sequence[str] = ()) -> pd.DataFrame:
    """Fit log2 of the optimal learning rate against log2 of tokens and read Figure 7's regime from the slope.

    Least squares over checkpoints, with a t interval from their scatter about the line. The local parabola misses the
    minimum of an asymmetric curve by half a grid step or less. What all checkpoints miss alike cancels in the slope; what
    depends on where the optimum lies between two rates of the grid does not, and is a source of variation of its own: 0.12
    grid steps (measured on six shapes of curve, `benchmarks.statistics`). A checkpoint whose best rate is the grid's edge, or
    that has no optimum inside the grid, says only "not inside": it is left out and counted, because the edge itself would
    pull the slope to 0.

    Args:
        rates: of `tuned_rates`; without ``grid_step`` the optima are taken as they are.
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
        step = float(used["grid_step"].mean()) if "grid_step" in used.columns and len(used) else 0.0
        if len(used) >= 3 and np.ptp(x) > 0:
            fit = stats.linregress(x, y)
            error = np.sqrt(fit.stderr**2 + (_GRID_SHARE * step) ** 2 / ((x - x.mean()) ** 2).sum())
            width = float(stats.t.ppf(1 - level / 2, len(used) - 2) * error)
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
        target: ``budget``, ``run``, ``rate``, ``value``: the other metric, one row per cell.
        by: columns that name a curve, in both frames.

    Returns:
        One row per group, budget and run: ``rate`` (best), ``value`` (mean at the best rate), ``low`` and ``high``
        (smallest and largest mean over the rates within one standard error), ``n_near``, ``n_missing`` (cells of those
        rates without a value; such a rate has no mean).
    """
    require(target, [*by, "budget", "run", "rate", "value"])
    rates = rate_table(selection, by=by)
    near = rates[rates["near"]]
    keys = [*by, "budget", "run", "rate"]
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
                "rate": best["rate"],
                "value": best["value"],
                "low": part["value"].min(),
                "high": part["value"].max(),
                "n_near": len(part),
                "n_missing": int(part["missing"].sum()),
            }
        )
    return pd.DataFrame(rows)
