"""What a design could see, before anything is spent: power and the minimum detectable effect, by Monte Carlo.

The reference alternative is the weakest turn: a plateau whose last budget alone rises. Seed noise alone, 6 budgets x 3
seeds: a rise of 2.5 standard deviations between seeds is called a turn with 80% power.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats

from model_wrappers.errors import ConfigError
from overtrain.analysis.contrasts import Contrasts, divide, matched_freedom, pairs
from overtrain.analysis.layout import Layout
from overtrain.analysis.noise import unit_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.analysis.layout import Array

__all__ = ["minimum_detectable_effect", "power_curve"]

_SIMULATIONS = 20_000


class _Draws(NamedTuple):
    """Simulated studies: the largest statistic away from the last budget, and estimates and errors of those with it."""

    elsewhere: Array
    estimates: Array
    errors: Array
    critical_rise: float
    critical_last: float

    def power(self, effect: float) -> float:
        last = divide(self.estimates + effect, self.errors).max(axis=1)
        turns = (np.maximum(self.elsewhere, last) > self.critical_rise) & (last > self.critical_last)
        return float(turns.mean())


def power_curve(
    effects: Sequence[float], budgets: int, seeds: int, *, level: float = 0.05, seed: int = 0, **design: Any
) -> pd.DataFrame:
    """Return the chance of the verdict *turn* when the last budget rises by each of ``effects`` above a plateau.

    Args:
        effects: in the unit of ``seed_sd`` and ``document_sd``.
        budgets: number of budgets.
        seeds: seeds per run.
        level: of the tests.
        seed: of the simulation.
        **design: as for `minimum_detectable_effect`, without ``power``.

    Returns:
        One row per effect: ``effect``, ``power``.
    """
    draws = _simulate(_contrasts(budgets, seeds, **design)[0], level, seed)
    return pd.DataFrame({"effect": list(effects), "power": [draws.power(effect) for effect in effects]})


def minimum_detectable_effect(
    budgets: int,
    seeds: int,
    *,
    seed_sd: float = 1.0,
    runs: int = 1,
    run_sd: float = 0.0,
    documents: int | None = None,
    document_sd: float = 0.0,
    power: float = 0.8,
    level: float = 0.05,
    paired: bool = True,
    pooled: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the smallest effects that a design finds with the given power.

    Args:
        budgets: number of budgets, two or more.
        seeds: seeds per run.
        seed_sd: standard deviation between seeds of a budget's metric; with ``paired`` of what a seed adds beyond what it
            adds at every budget.
        runs: pre-training runs per budget.
        run_sd: standard deviation between runs, likewise; only with several runs.
        documents: per task; None for "as good as all".
        document_sd: standard deviation over documents of the difference between two budgets.
        power: wanted.
        level: of the tests.
        paired: whether budgets share seeds (or runs).
        pooled: see `overtrain.analysis.contrasts.unit_terms`.
        seed: of the simulation.

    Returns:
        One row: ``turn`` (last budget above a plateau), ``turn_in_seed_sd``, ``comparison`` (two-sided t test of the two
        budgets of the primary comparison by their own paired differences), ``critical`` (of the rise test), ``se`` (of a
        difference), ``power``, and the design. Effects are missing where nothing is repeated.

    Raises:
        ConfigError: fewer than two budgets, no seed, or a negative deviation.
    """
    contrasts, known = _contrasts(
        budgets,
        seeds,
        seed_sd=seed_sd,
        runs=runs,
        run_sd=run_sd,
        documents=documents,
        document_sd=document_sd,
        paired=paired,
        pooled=pooled,
    )
    turn = comparison = critical = np.nan
    # The typical error: on average every budget has the pooled variance.
    typical = Contrasts(contrasts.layout, contrasts.weights[:1], pooled=True)
    error = float(typical.errors[0])
    if known:
        draws = _simulate(contrasts, level, seed)
        critical = draws.critical_rise
        turn = _solve(lambda effect: draws.power(effect) - power, error)
        freedom = float(typical.freedom[0]) if pooled else _separate_freedom(contrasts.layout, error)
        bound = float(stats.t.ppf(1 - level / 2, freedom))
        comparison = _solve(lambda effect: _two_sided(effect / error, freedom, bound) - power, error)
    return pd.DataFrame(
        {
            "turn": [turn],
            "turn_in_seed_sd": [turn / seed_sd if seed_sd > 0 else np.nan],
            "comparison": [comparison],
            "critical": [critical],
            "se": [error if known else np.nan],
            "power": [power],
            "n_budgets": [budgets],
            "n_runs": [runs],
            "n_seeds": [seeds],
            "n_documents": pd.array([documents], dtype="Int64"),
        }
    )


def _separate_freedom(layout: Layout, error: float) -> float:
    """Return the degrees of freedom of `overtrain.analysis.compare.compare` where all budgets are equally noisy."""
    units = layout.cells.shape[1]
    documents = 2 * float(layout.covariance[0, 0])
    degrees = (units - 1) * (1 if layout.paired else 2)
    parts = [(error**2 - documents, float(degrees)), (documents, layout.n_documents - 1.0)]
    return matched_freedom(parts)


def _two_sided(shift: float, freedom: float, bound: float) -> float:
    """Return P(|T| > bound) of a noncentral t, by averaging the normal over the variance's distribution.

    scipy's own noncentral t gives NaN for one degree of freedom and a large bound.
    """
    scale = np.ones(1)
    if np.isfinite(freedom) and freedom <= 1e6:
        middles = (np.arange(2000) + 0.5) / 2000
        scale = np.sqrt(stats.chi2.ppf(middles, freedom) / freedom)
    return float((stats.norm.sf(bound * scale - shift) + stats.norm.cdf(-bound * scale - shift)).mean())


def _solve(function: Any, error: float) -> float:
    upper = 4 * error
    while function(upper) < 0:
        upper *= 2
    return float(optimize.brentq(function, 0.0, upper, xtol=1e-3 * error))


def _contrasts(
    budgets: int,
    seeds: int,
    *,
    seed_sd: float = 1.0,
    runs: int = 1,
    run_sd: float = 0.0,
    documents: int | None = None,
    document_sd: float = 0.0,
    paired: bool = True,
    pooled: bool = False,
) -> tuple[Contrasts, bool]:
    """Return all pairs of budgets of a curve that has exactly these variances, and whether anything is repeated."""
    if budgets < 2 or seeds < 1 or runs < 1:
        raise ConfigError(
            f"{budgets} budgets, {runs} runs, {seeds} seeds: a design needs two budgets, a run and a seed"
        )
    if min(seed_sd, run_sd, document_sd) < 0:
        raise ConfigError(f"deviations {seed_sd}, {run_sd}, {document_sd}: none may be negative")
    units = runs if runs > 1 else seeds
    variance = run_sd**2 + seed_sd**2 / seeds if runs > 1 else seed_sd**2
    cells = np.zeros((budgets, units))
    if units > 1:
        cells = np.random.default_rng(0).standard_normal((budgets, units))
        cells *= np.sqrt(variance / unit_variance(cells, paired=paired, pooled=True)[0][0])
    by_document = document_sd**2 / (2 * documents) if documents else 0.0
    layout = Layout(
        budgets=tuple(range(1, budgets + 1)),
        cells=cells,
        paired=paired,
        residuals=None,
        covariance=np.eye(budgets) * by_document,
        interaction=np.zeros(budgets),
        n_runs=runs,
        n_seeds=seeds,
        n_documents=documents or 1,
        missing=(),
    )
    known = (units > 1 and variance > 0) or by_document > 0
    return Contrasts(layout, pairs(budgets)[0], pooled, equal_noise=True), known


def _simulate(contrasts: Contrasts, level: float, seed: int) -> _Draws:
    last = contrasts.weights[:, -1] == 1
    elsewhere, estimates, errors = [], [], []
    for drawn, error in contrasts.null(seed, _SIMULATIONS, known=True):
        t = divide(drawn, error)
        elsewhere.append(t[:, ~last].max(axis=1, initial=-np.inf))
        estimates.append(drawn[:, last])
        errors.append(error[:, last])
    rest, above, error = np.concatenate(elsewhere), np.concatenate(estimates), np.concatenate(errors)
    against = divide(above, error).max(axis=1)
    read = contrasts.calibrated(level)
    rise = float(np.quantile(np.maximum(rest, against), 1 - read))
    return _Draws(rest, above, error, rise, float(np.quantile(against, 1 - read)))
