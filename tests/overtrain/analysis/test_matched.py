import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.matched import matched_base_loss


def points(group, base, value, se=0.1):
    return pd.DataFrame({"group": group, "base": base, "value": value, "se": se})


def test_interpolation_by_hand():
    frame = pd.concat([points("a", [3.0, 2.0, 1.0], [4.0, 3.0, 2.0]), points("b", [2.5, 1.5], [5.0, 4.0])])
    table = matched_base_loss(frame, "a", "b", at=3)
    np.testing.assert_allclose(table["base"], [1.5, 2.0, 2.5])
    np.testing.assert_allclose(table["reference"], [2.5, 3.0, 3.5])
    np.testing.assert_allclose(table["other"], [4.0, 4.5, 5.0])
    np.testing.assert_allclose(table["difference"], 1.5)
    # half and half of two points of 0.1 on both sides, then a point of a and half and half of b
    np.testing.assert_allclose(table["se"], np.sqrt([0.005 + 0.01, 0.01 + 0.005, 0.005 + 0.01]))


def test_nothing_is_extrapolated():
    frame = pd.concat([points("a", [3.0, 2.5], [4.0, 3.0]), points("b", [2.0, 1.0], [5.0, 4.0])])
    assert matched_base_loss(frame, "a", "b").empty


def test_missing_values_do_not_take_part():
    frame = pd.concat([points("a", [3.0, 2.0], [4.0, np.nan]), points("b", [2.5, 1.5], [5.0, 4.0])])
    with pytest.raises(DataError, match="group 'a' has 1 checkpoints with values"):
        matched_base_loss(frame, "a", "b")
