import itertools

import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.divergence import diverges_later
from overtrain.analysis.layout import assemble
from overtrain.analysis.long import long_form, oriented
from overtrain.analysis.simulate import TRUTHS, simulate_study
from overtrain.analysis.verdict import verdict

LAST = 32 * 10**9


def study(means, gone, seed=0, **design):
    """A study whose cells ``gone`` (budget and seed) diverged: one row each, without a document."""
    frame = simulate_study(means, np.random.default_rng(seed), **{"seed_sd": 0.3, **design})
    for budget, chosen in gone:
        here = (frame["budget"] == budget) & (frame["seed"] == chosen)
        cell = frame[here].head(1).assign(y=np.inf, document=pd.NA)
        frame = pd.concat([frame[~here].astype({"document": "Int64"}), cell.astype({"document": "Int64"})])
    return frame


def test_the_p_value_by_enumeration():
    rng = np.random.default_rng(0)
    for _ in range(5):
        diverged = rng.random((4, 3)) < 0.4
        observed = (np.arange(4)[:, None] * diverged).sum()
        choices = [list(itertools.combinations(range(4), int(count))) for count in diverged.sum(axis=0)]
        sums = [sum(sum(places) for places in choice) for choice in itertools.product(*choices)]
        assert diverges_later(diverged) == pytest.approx(np.mean(np.array(sums) >= observed))


def test_two_of_three_diverged_seeds_at_the_last_budget_are_no_monotone_fall():
    row = verdict(study(TRUTHS["falling"], [(LAST, 0), (LAST, 1)])).iloc[0]
    assert row["verdict"] == "inconclusive"
    assert row["n_diverged"] == 2
    assert row["n_budgets"] == 6
    assert row["p_divergence"] == pytest.approx(1 / 36)
    assert "2 cells diverged and rank worst" in row["sentence"]
    assert "no inflection point established" in row["sentence"]


def test_all_seeds_that_diverge_at_the_last_budget_make_a_turn():
    row = verdict(study(TRUTHS["flat"], [(LAST, seed) for seed in range(3)])).iloc[0]
    assert row["verdict"] == "turn"
    assert "3 of 3 at 32B" in row["sentence"]
    assert row["before"] == LAST
    assert not row["right_censored"]
    falling = verdict(study(TRUTHS["falling"], [(LAST, seed) for seed in range(3)])).iloc[0]
    assert falling["verdict"] == "U"
    assert "falls and then diverges, later in pre-training than chance would place it" in falling["sentence"]


def test_a_diverged_cell_has_the_worst_finite_value():
    frame = study(TRUTHS["falling"], [(LAST, 1)])
    layout = assemble(frame)
    assert layout.diverged.tolist() == [[False] * 3] * 5 + [[False, True, False]]
    assert layout.cells[-1, 1] == layout.cells[0].max()
    assert layout.n_seeds == 3


def test_where_everything_diverged_nothing_is_compared():
    frame = study([0.0, 1.0], [(b, s) for b in (10**9, 2 * 10**9) for s in range(3)])
    with pytest.raises(DataError, match="every cell of this curve diverged"):
        assemble(frame)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_infinity_is_worst_in_either_direction(higher_is_better):
    runs = pd.DataFrame(
        {
            "cell_id": ["a", "b"],
            "tokens": [1, 2],
            "run": "r",
            "seed": 0,
            "task": "t",
            "metric": "m",
            "value": [0.5, np.inf],
        }
    )
    documents = pd.DataFrame(
        {"cell_id": ["a", "a"], "task": "t", "metric": "m", "document": [0, 1], "value": [0.0, 1.0], "weight": 1.0}
    )
    long = oriented(long_form(runs, documents, task="t", metric="m"), higher_is_better)
    assert long.loc[long["budget"] == 2, "y"].tolist() == [np.inf]
    assert np.isfinite(long.loc[long["budget"] == 1, "y"]).all()
