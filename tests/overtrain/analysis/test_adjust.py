import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.adjust import holm


def test_holm_by_hand():
    table = holm(pd.DataFrame({"task": list("abcd"), "p_value": [0.01, 0.04, 0.03, 0.005]}))
    # sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, then never falling
    np.testing.assert_allclose(table["p_holm"], [0.03, 0.06, 0.06, 0.02])
    assert table["significant"].tolist() == [True, False, False, True]


def test_missing_p_values_do_not_count():
    table = holm(pd.DataFrame({"p_value": [0.02, np.nan, 0.02]}))
    np.testing.assert_allclose(table["p_holm"], [0.04, np.nan, 0.04])
    assert table["significant"].tolist() == [True, False, True]


def test_families_and_ceiling():
    table = holm(pd.DataFrame({"family": ["x", "y", "y"], "p_value": [0.04, 0.9, 0.6]}), by=["family"])
    np.testing.assert_allclose(table["p_holm"], [0.04, 1.0, 1.0])
    assert table["family"].tolist() == ["x", "y", "y"]


def test_family_wise_error_under_the_null():
    rng = np.random.default_rng(0)
    hits = [holm(pd.DataFrame({"p_value": rng.uniform(size=8)}))["significant"].any() for _ in range(400)]
    # true rate 4.9%: over 7.9% of 400 happens with probability below 0.5%
    assert np.mean(hits) <= 0.079


def test_a_missing_column_is_an_error():
    with pytest.raises(DataError, match="did you mean 'p_value'"):
        holm(pd.DataFrame({"p_value": [0.1]}), "p_valu")
