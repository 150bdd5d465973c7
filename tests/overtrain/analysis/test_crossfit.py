import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.compare import compare
from overtrain.analysis.crossfit import cell_means, cross_fitted, cross_fitted_verdict
from overtrain.analysis.tuned import at_tuned_rates, tuned_verdict

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def equal_rates(rng, *, budgets=4, seeds=3, documents=120, luck=3.0, gap=0.0):
    """Every rate has the same true loss: a document's difficulty, plus ``gap`` times the budget's place.

    Rates differ in the luck of documents alone, which their seeds share.
    """
    shape = (budgets, len(RATES), seeds, documents)
    y = rng.exponential(5, documents) + rng.normal(0, luck, (budgets, len(RATES), 1, documents))
    y = y + rng.normal(0, 1, shape) + gap * np.arange(budgets)[:, None, None, None]
    index = np.indices(shape).reshape(4, -1)
    return pd.DataFrame(
        {
            "budget": 10**9 * 2 ** index[0],
            "run": "one",
            "seed": pd.array(index[2], dtype="Int64"),
            "rate": np.array(RATES)[index[1]],
            "document": index[3],
            "y": y.ravel(),
            "weight": 1.0,
        }
    )


def test_each_half_is_reported_at_the_rate_that_is_best_on_the_other():
    rows = []
    for rate, even, odd in ((1e-4, 1.0, 5.0), (1e-3, 2.0, 3.0)):
        rows += [
            {
                "budget": 1,
                "run": "a",
                "seed": s,
                "rate": rate,
                "document": d,
                "y": odd if d % 2 else even,
                "weight": 1.0,
            }
            for s in (0, 1)
            for d in range(6)
        ]
    frame = pd.DataFrame(rows)
    tuned = cross_fitted(frame)
    assert len(tuned) == 12
    assert not tuned.duplicated(["seed", "document"]).any()
    found = tuned.groupby(tuned["document"] % 2)[["rate", "y"]].agg(["min", "max"])
    assert found.loc[0].tolist() == [1e-3, 1e-3, 2.0, 2.0]  # even documents, at the rate that is best on the odd ones
    assert found.loc[1].tolist() == [1e-4, 1e-4, 5.0, 5.0]


def test_equal_rates_are_unbiased_when_cross_fitted_and_too_good_when_selected_on_what_is_reported():
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(40):
        frame = equal_rates(rng)
        truth = frame["y"].mean()  # over all rates: what every rate is
        biased = at_tuned_rates(frame, cell_means(frame))["y"].mean()
        differences.append((cross_fitted(frame)["y"].mean() - truth, biased - truth))
    honest, paper = np.array(differences).T
    error = honest.std(ddof=1) / np.sqrt(len(honest))
    assert abs(honest.mean()) < 3 * error
    # the smallest of five means of luck 3 over 120 documents lies 1.16 * 3 / sqrt(120) below their mean
    assert paper.mean() == pytest.approx(-1.16 * 3 / np.sqrt(120), rel=0.15)
    assert paper.mean() < -5 * error


def test_the_bootstrap_repeats_both_selections_and_flat_curves_do_not_turn():
    rng = np.random.default_rng(1)
    turned = 0
    for _ in range(30):
        row = cross_fitted_verdict(equal_rates(rng), replicates=300).iloc[0]
        assert row["selection_noise"] > 0.9  # eight choices among equal rates
        turned += row["verdict"] in {"turn", "U"}
    # at a true rate of 5% more than 5 of 30 happen with probability 0.3%
    assert turned <= 5


def test_a_rise_is_found():
    row = cross_fitted_verdict(equal_rates(np.random.default_rng(2), gap=2.0), replicates=500).iloc[0]
    assert row["verdict"] == "turn"
    assert row["n_documents"] == 120


def test_without_ambiguity_it_is_the_verdict_of_that_rate():
    rng = np.random.default_rng(3)
    frame = equal_rates(rng)
    frame["y"] += 50.0 * (frame["rate"] != 3e-4)
    one = frame[frame["rate"] == 3e-4]
    assert cross_fitted(frame).sort_values(["budget", "seed", "document"])["y"].tolist() == one["y"].tolist()
    row = cross_fitted_verdict(frame, replicates=1000).iloc[0]
    assert row["selection_noise"] == 0
    other = tuned_verdict(frame, cell_means(frame), replicates=1000, itself=True).iloc[0]
    assert row["rise"] == pytest.approx(other["rise"])
    # the same documents in one draw or in two halves
    assert row["critical"] == pytest.approx(other["critical"], rel=0.1)
    budgets = sorted(set(frame["budget"]))
    wanted, found = (compare(f, budgets[0], budgets[-1]).iloc[0] for f in (one, cross_fitted(frame)))
    assert found["effect"] == pytest.approx(wanted["effect"])
    assert found["se"] == pytest.approx(wanted["se"])


def test_documents_that_select_are_drawn_again():
    """Rates that only the choice of documents tells apart: taken as given, they would never be exchanged."""
    rng = np.random.default_rng(4)
    win = equal_rates(rng, luck=6.0)
    win["y"] -= win.groupby(["budget", "rate", "seed"])["y"].transform("mean")
    win["y"] += win["rate"].map(dict(zip(RATES, (0.0, 0.1, 0.2, 0.3, 0.4), strict=True)))
    target = equal_rates(rng)
    chosen = cell_means(win)
    given = tuned_verdict(target, chosen, replicates=300).iloc[0]
    drawn = tuned_verdict(target, chosen, scores=win, replicates=300).iloc[0]
    itself = tuned_verdict(win, chosen, itself=True, replicates=300).iloc[0]
    assert given["selection_noise"] == 0
    assert drawn["selection_noise"] > 0.9
    assert itself["selection_noise"] > 0.9


def test_a_missing_cell_takes_its_rate_out_and_is_said():
    frame = equal_rates(np.random.default_rng(5))
    lost = (frame["rate"] == RATES[0]) & (frame["budget"] == frame["budget"].max()) & (frame["seed"] == 1)
    gap = frame[lost].head(1).assign(document=None, y=np.nan)
    frame = pd.concat(
        [frame[~lost].astype({"document": "Int64"}), gap.astype({"document": "Int64"})], ignore_index=True
    )
    last = cross_fitted(frame).query("budget == budget.max()")
    assert RATES[0] not in set(last["rate"])
    assert last.groupby("seed")["y"].count().tolist() == [120, 120, 120]
    assert (
        "learning rate 0.0001 left out: missing cells" in cross_fitted_verdict(frame, replicates=50)["missing"].item()
    )


def test_without_documents_it_says_so():
    frame = equal_rates(np.random.default_rng(6), documents=1)
    with pytest.raises(DataError, match="there are no scores per document"):
        cross_fitted(frame.assign(document=None))
    with pytest.raises(DataError, match="two documents or more"):
        cross_fitted(frame)


def test_one_seed_has_nothing_to_resample():
    with pytest.raises(DataError, match="nothing to resample"):
        cross_fitted_verdict(equal_rates(np.random.default_rng(7), seeds=1))
