import numpy as np
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.bootstrap import bootstrap_difference, resample_units, unit_residuals
from overtrain.analysis.compare import compare
from overtrain.analysis.contrasts import unit_variance
from overtrain.analysis.layout import assemble
from overtrain.analysis.simulate import simulate_study

ENDS = (10**9, 32 * 10**9)


@pytest.mark.parametrize("paired", [True, False])
def test_inflated_residuals_have_the_unbiased_variance(paired):
    cells = np.random.default_rng(0).standard_normal((6, 3)) + np.arange(3)
    residuals = unit_residuals(cells, paired=paired)
    expected, _ = unit_variance(cells, paired=paired, pooled=True)
    assert (residuals**2).mean() == pytest.approx(expected[0])


def test_many_runs_are_drawn_whole():
    layout = assemble(simulate_study([0, 1, 2], np.random.default_rng(1), runs=6, seeds=1, documents=1))
    drawn = resample_units(layout, np.random.default_rng(2), 50) - layout.means[:, None]
    columns = unit_residuals(layout.cells, paired=True).T
    for column in drawn.transpose(0, 2, 1).reshape(-1, 3):
        assert np.isclose(columns, column).all(axis=1).any()


def test_with_many_seeds_and_documents_it_is_the_t_interval():
    frame = simulate_study([0.0] * 6, np.random.default_rng(3), seeds=12, documents=300)
    t, b = compare(frame, *ENDS, pooled=True).iloc[0], bootstrap_difference(frame, *ENDS, replicates=6_000).iloc[0]
    assert b["effect"] == pytest.approx(t["effect"])
    width = t["high"] - t["low"]
    # with the guard the statistic's distribution is narrower and its error larger; quantiles of 6,000 draws
    assert b["low"] == pytest.approx(t["low"], abs=0.08 * width)
    assert b["high"] == pytest.approx(t["high"], abs=0.08 * width)


@pytest.mark.parametrize(
    "design",
    [{}, {"documents": 1}, {"runs": 3, "seeds": 2, "run_sd": 1.0, "shared_run_sd": 3.0}],
    ids=["seeds and documents", "seeds", "runs"],
)
def test_coverage(design):
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(120):
        row = bootstrap_difference(simulate_study([0.0] * 6, rng, **design), *ENDS, replicates=500).iloc[0]
        hits.append(row["low"] <= 0 <= row["high"])
    # at a true coverage of 90% fewer than 98 of 120 happen with probability 0.2%
    assert sum(hits) >= 98


def test_nothing_repeated_has_no_interval():
    row = bootstrap_difference(
        simulate_study([0.0, 1.0], np.random.default_rng(5), seeds=1, documents=1), 10**9, 2 * 10**9
    )
    assert row[["low", "high"]].isna().all(axis=None)


def test_refusals():
    frame = simulate_study([0.0, 1.0], np.random.default_rng(6), documents=5)
    with pytest.raises(DataError, match="budget 7 has no complete result"):
        bootstrap_difference(frame, 10**9, 7)
    apart = frame.assign(document=frame["document"] + frame["budget"])
    with pytest.raises(DataError, match="share no documents"):
        bootstrap_difference(apart, 10**9, 2 * 10**9)
