"""A float that carries a token count through everything lm-eval does with a response."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from model_wrappers.scoring.rolling import RollingLogLikelihood


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_it_survives_copies_and_pickling(again):
    score = again(RollingLogLikelihood(-12.5, tokens=4))
    assert type(score) is RollingLogLikelihood
    assert (score, score.tokens) == (-12.5, 4)


def test_it_is_a_float_for_everybody_else():
    score = RollingLogLikelihood(-12.5, 4)
    assert json.dumps({"resps": [[score]]}) == '{"resps": [[-12.5]]}'
    assert type(score + 1) is float
    assert hash(score) == hash(-12.5)
    assert f"{score:.2f}" == "-12.50"


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="tokens=-1"):
        RollingLogLikelihood(-1.0, tokens=-1)
