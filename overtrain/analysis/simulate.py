"""Studies with a known truth, in the long form: what the validation suite and the tests judge the analysis by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from overtrain.analysis.layout import Array

__all__ = ["TRUTHS", "simulate_cells", "simulate_study"]

TRUTHS: Mapping[str, tuple[float, ...]] = {
    "flat": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "plateau": (6.0, 3.0, 0.0, 0.0, 0.0, 0.0),
    "falling": (7.5, 6.0, 4.5, 3.0, 1.5, 0.0),
    "U": (7.0, 3.0, 0.0, 0.5, 3.0, 7.0),
}
"""True means of six budgets, in standard deviations between seeds."""


def simulate_study(
    means: Sequence[float],
    rng: np.random.Generator,
    *,
    seeds: int = 3,
    runs: int = 1,
    documents: int = 100,
    seed_sd: float | Sequence[float] = 1.0,
    shared_seed_sd: float = 1.0,
    run_sd: float = 0.0,
    shared_run_sd: float = 0.0,
    document_sd: float = 3.0,
    interaction_sd: float = 2.0,
    slope_sd: float = 0.0,
) -> pd.DataFrame:
    """Draw one study.

    Documents have a skewed (exponential) difficulty that budgets share, a normal deviation at each budget and another for
    every seed at every budget; 1 document means cells' means alone.

    Args:
        means: true mean of each budget, shape (budgets,).
        rng: draws everything.
        seeds: per run; shared by budgets and runs.
        runs: pre-training runs; shared by budgets.
        documents: shared by all cells.
        seed_sd: of a seed at a budget, beyond what it adds at all budgets; one value or one per budget.
        shared_seed_sd: of what a seed adds at all budgets.
        run_sd: of a run at a budget.
        shared_run_sd: of what a run adds at all budgets.
        document_sd: of a document at a budget.
        interaction_sd: of a document at a budget for a seed.
        slope_sd: of what a seed's own slope over the order of budgets adds, on average over budgets (root mean square).

    Returns:
        The long form; budgets are 1e9 times powers of two.
    """
    budgets = len(means)
    shape = (budgets, runs, seeds)
    spread = np.broadcast_to(np.asarray(seed_sd, float), (budgets,))
    cells = np.asarray(means, float)[:, None, None] + rng.standard_normal(shape) * spread[:, None, None]
    cells = cells + rng.standard_normal((runs, seeds)) * shared_seed_sd
    if slope_sd:
        cells = cells + _order(budgets)[:, None, None] * rng.standard_normal((runs, seeds)) * slope_sd
    cells = cells + rng.standard_normal((budgets, runs, 1)) * run_sd + rng.standard_normal((runs, 1)) * shared_run_sd
    y = cells[..., None]
    if documents > 1:
        y = y + (rng.exponential(size=documents) - 1) * 5
        y = y + rng.standard_normal((budgets, 1, 1, documents)) * document_sd
        y = y + rng.standard_normal((*shape, documents)) * interaction_sd
    index = np.indices(y.shape).reshape(4, -1)
    return pd.DataFrame(
        {
            "budget": (10**9 * 2 ** index[0]).astype(np.int64),
            "run": pd.Series(index[1]).map(lambda run: f"run{run}"),
            "seed": pd.array(index[2], dtype="Int64"),
            "document": index[3],
            "y": y.ravel(),
            "weight": 1.0,
        }
    )


def simulate_cells(
    means: Sequence[float],
    rng: np.random.Generator,
    *,
    seeds: int = 3,
    seed_sd: float | Sequence[float] = 1.0,
    shared_seed_sd: float = 1.0,
    slope_sd: float = 0.0,
    jitter_sd: float = 0.0,
) -> Array:
    """Draw the cells' means of one study, without documents, shape (budgets, seeds).

    Args:
        means: as for `simulate_study`, and so are the others.
        rng: draws everything.
        seeds: shared by budgets.
        seed_sd: of a seed at a budget.
        shared_seed_sd: of what a seed adds at all budgets.
        slope_sd: of what a seed's own slope adds.
        jitter_sd: of what a checkpoint adds to all of its seeds.
    """
    budgets = len(means)
    spread = np.broadcast_to(np.asarray(seed_sd, float), (budgets,))
    cells = np.asarray(means, float)[:, None] + rng.standard_normal((budgets, seeds)) * spread[:, None]
    cells = cells + rng.standard_normal(seeds) * shared_seed_sd
    cells = cells + _order(budgets)[:, None] * rng.standard_normal(seeds) * slope_sd
    return np.asarray(cells + rng.standard_normal((budgets, 1)) * jitter_sd)


def _order(budgets: int) -> Array:
    """Return the order of budgets, centred, with a root mean square of 1."""
    order = np.arange(budgets) - (budgets - 1) / 2
    return np.asarray(order / max(np.sqrt((order**2).mean()), 1e-12))
