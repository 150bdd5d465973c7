import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.simulate import simulate_study
from overtrain.analysis.tuned import at_tuned_rates, tuned_verdict
from overtrain.analysis.verdict import verdict

RATES = (1e-4, 3e-4, 1e-3)


def study(means, rng, penalty, gap=0.0, noise=0.05, **design):
    """Every rate has the curve ``means`` plus ``gap`` times its place; selection prefers the smallest penalty."""
    frames = []
    for place, rate in enumerate(RATES):
        frame = simulate_study([m + gap * place for m in means], rng, **{"documents": 1, "seed_sd": 0.5, **design})
        frames.append(frame.assign(rate=rate, penalty=penalty[place]))
    frame = pd.concat(frames, ignore_index=True)
    cells = frame.drop_duplicates(["budget", "run", "seed", "rate"])
    selection = cells.assign(value=cells["penalty"] + noise * rng.standard_normal(len(cells)))
    return frame.drop(columns="penalty"), selection[["budget", "run", "seed", "rate", "value"]]


def test_the_best_rate_of_every_checkpoint_is_kept():
    rng = np.random.default_rng(0)
    frame, selection = study([0, 1], rng, (1.0, 0.0, 2.0))
    selection.loc[selection["budget"] == 2 * 10**9, "value"] *= -1
    tuned = at_tuned_rates(frame, selection)
    assert tuned.groupby("budget")["rate"].unique().map(list).to_dict() == {10**9: [3e-4], 2 * 10**9: [1e-3]}
    assert len(tuned) == 6


def test_with_one_clear_rate_it_is_the_plain_verdict():
    rng = np.random.default_rng(1)
    frame, selection = study([6, 3, 0, 0, 3, 6], rng, (9.0, 0.0, 9.0), documents=40)
    plain = verdict(frame[frame["rate"] == 3e-4]).iloc[0]
    tuned = tuned_verdict(frame, selection).iloc[0]
    assert tuned["selection_noise"] == 0
    assert tuned["verdict"] == plain["verdict"] == "U"
    assert tuned["rise"] == pytest.approx(plain["rise"])
    # the critical value is that of residuals resampled, not of normal draws
    assert tuned["critical"] == pytest.approx(plain["critical"], rel=0.25)
    assert (tuned["after"], tuned["before"]) == (plain["after"], plain["before"])


def test_ambiguous_selection_widens_the_test():
    rng = np.random.default_rng(2)
    naive, honest = 0, 0
    for _ in range(40):
        frame, selection = study([0.0] * 6, rng, (0.0, 0.0, 9.0), gap=3.0)
        naive += verdict(at_tuned_rates(frame, selection)).iloc[0]["verdict"] in {"turn", "U"}
        row = tuned_verdict(frame, selection, replicates=500).iloc[0]
        assert row["selection_noise"] > 0.2
        honest += row["verdict"] in {"turn", "U"}
    # A curve that jumps between two levels by the luck of selection turns falsely far too often without the bootstrap.
    assert naive >= 10
    # at a true rate of 5% more than 6 of 40 happen with probability 0.3%
    assert honest <= 6


def test_each_run_is_tuned_for_itself():
    rng = np.random.default_rng(3)
    frame, selection = study([6, 3, 0, 0, 3, 6], rng, (9.0, 0.0, 9.0), runs=4, seeds=1, documents=10)
    other = selection["run"] == "run1"
    turned = selection.assign(value=selection["value"].where(~other, -selection["value"]))
    tuned = at_tuned_rates(frame, turned)
    assert set(tuned.loc[tuned["run"] == "run0", "rate"]) == {3e-4}
    assert 3e-4 not in set(tuned.loc[tuned["run"] == "run1", "rate"])
    row = tuned_verdict(frame, selection).iloc[0]
    assert row["verdict"] == "U"
    assert row["n_runs"] == 4


def test_a_rate_with_a_missing_cell_is_left_out_and_told():
    rng = np.random.default_rng(4)
    frame, selection = study([6, 3, 0, 0, 3, 6], rng, (9.0, 0.0, 9.0))
    frame.loc[(frame["rate"] == 1e-3) & (frame["budget"] == 10**9) & (frame["seed"] == 2), "y"] = np.nan
    row = tuned_verdict(frame, selection).iloc[0]
    assert row["verdict"] == "U"
    assert row["missing"] == "learning rate 0.001 left out: missing cells"
    assert row["missing"] in row["sentence"]


def test_groups():
    rng = np.random.default_rng(5)
    parts = [study(m, rng, (9.0, 0.0, 9.0)) for m in ([6, 3, 0, 0, 3, 6], [9, 6, 3, 0, -3, -6])]
    frame = pd.concat([f.assign(task=t) for t, (f, _) in zip("ab", parts, strict=True)], ignore_index=True)
    selection = pd.concat([s.assign(task=t) for t, (_, s) in zip("ab", parts, strict=True)], ignore_index=True)
    table = tuned_verdict(frame, selection, by=["task"])
    assert dict(zip(table["task"], table["verdict"], strict=True)) == {"a": "U", "b": "monotone"}


def test_refusals():
    rng = np.random.default_rng(6)
    frame, selection = study([0, 1, 2], rng, (9.0, 0.0, 9.0))
    with pytest.raises(DataError, match="no learning rate has a result and a selection metric"):
        tuned_verdict(frame, selection.assign(value=np.nan))
    with pytest.raises(DataError, match="nothing to resample"):
        tuned_verdict(frame[frame["seed"] == 0], selection[selection["seed"] == 0])
    with pytest.raises(DataError, match="budget 1000000000 has no learning rate"):
        at_tuned_rates(frame, selection[selection["budget"] > 10**9])
