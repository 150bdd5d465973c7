import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.shares import variance_shares


def documents(task, count, deviation=1.0):
    # half above, half below: variance deviation^2 count / (count - 1)
    y = np.tile([deviation, -deviation], count // 2)
    return pd.DataFrame({"task": task, "y": y, "weight": 1.0})


def test_a_small_task_carries_the_variance():
    frame = pd.concat([documents("copa", 100), documents("hellaswag", 10_000), documents("piqa", 2_000)])
    table = variance_shares(frame).set_index("task")
    inverse = np.array([1 / 99, 1 / 9_999, 1 / 1_999])
    np.testing.assert_allclose(table["share"], inverse / inverse.sum())
    np.testing.assert_allclose(table["se"], np.sqrt(inverse))
    np.testing.assert_allclose(table["task_weight"], 1 / 3)


def test_weights_enter_squared():
    frame = pd.concat([documents("a", 100), documents("b", 100)])
    table = variance_shares(frame, {"a": 3, "b": 1}).set_index("task")
    np.testing.assert_allclose(table["share"], [0.9, 0.1])


def test_refusals():
    with pytest.raises(DataError, match="'a' has one document"):
        variance_shares(documents("a", 2).head(1))
    with pytest.raises(DataError, match="'b' has no weight"):
        variance_shares(pd.concat([documents("a", 4), documents("b", 4)]), {"a": 1})
