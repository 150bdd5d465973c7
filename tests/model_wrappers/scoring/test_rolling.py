"""A float that carries a token count through everything lm-eval does with a response."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from lm_eval.api.instance import Instance

from model_wrappers.lm import PerturbedLM
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


def test_a_long_text_agrees_with_lm_eval_per_token(make_model):
    """README's bound for whole texts: the rounding errors of thousands of tokens add up."""
    text = " ".join(f"Sentence {n} boils an egg for {n * 7 % 60} minutes and sleeps well." for n in range(150))
    found = []
    for scoring in ("prefixes", "plain"):
        lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu", batch_size=1, scoring=scoring)
        request = Instance("loglikelihood_rolling", {}, (text,), 0, metadata=("task", 0, 1))
        found += lm.loglikelihood_rolling([request], disable_tqdm=True)
    assert found[0].tokens == found[1].tokens > 3000
    assert found[0] == pytest.approx(float(found[1]), abs=1e-6 * found[0].tokens)
