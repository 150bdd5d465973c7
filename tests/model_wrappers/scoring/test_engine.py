"""From lm-eval's requests to scores: the plan that is kept, the comparison, the fallback, memory, and rolling windows."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM

from model_wrappers.architectures.proven import PROVEN
from model_wrappers.compat import instance, rolling_request, rolling_value
from model_wrappers.errors import ConfigError, DataError
from model_wrappers.lm import PerturbedLM
from model_wrappers.scoring import engine, proofs, score

pytestmark = pytest.mark.spine

TEXTS = ["The quick brown fox jumps over the lazy dog. " * 9, "", "Eat", "How do I boil an egg? " * 30]
PAIRS = [(TEXTS[0], f" {word}") for word in ("fox", "dog", "quick brown", "egg")] + [("Eat", " well"), ("", "walk")]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(engine, "_plans", type(engine._plans)())
    monkeypatch.setattr(proofs, "_known", {})


def instances(kind: str, arguments: list[tuple[str, ...]]) -> list:
    return [instance(kind, args, task="t", document=i, index=i) for i, args in enumerate(arguments)]


def lm(folder, **more) -> PerturbedLM:
    return PerturbedLM(pretrained=str(folder), gamma=0, device="cpu", **more)


def values(model) -> list[tuple[float, bool]]:
    return model.loglikelihood(instances("loglikelihood", PAIRS), disable_tqdm=True)


@pytest.mark.parametrize("context", [1024, 64])
def test_rolling_texts_are_lm_evals(make_model, context):
    """Windows longer than the context too, and texts without a token."""
    folder = make_model("olmo", context=context)
    asked = instances("loglikelihood_rolling", [rolling_request(t) for t in TEXTS])
    expected = HFLM(pretrained=str(folder), device="cpu", batch_size=2).loglikelihood_rolling(asked, disable_tqdm=True)
    found = lm(folder).loglikelihood_rolling(asked, disable_tqdm=True)
    assert [*map(rolling_value, found)] == pytest.approx([*map(rolling_value, expected)], abs=1e-4)


def test_cells_that_share_requests_tokenise_once(make_model, monkeypatch):
    one, other = lm(make_model("olmo", seed=0)), lm(make_model("olmo", seed=1))
    first = values(one)
    monkeypatch.setattr(engine, "encode", lambda *_: pytest.fail("tokenised again"))
    assert values(other) != first
    assert values(one) == first


def test_cells_that_share_texts_tokenise_once(make_model, monkeypatch):
    asked = instances("loglikelihood_rolling", [rolling_request(t) for t in TEXTS])
    one, other = lm(make_model("olmo", seed=0)), lm(make_model("olmo", seed=1))
    first = one.loglikelihood_rolling(asked, disable_tqdm=True)
    monkeypatch.setattr(engine, "encode_texts", lambda *_: pytest.fail("tokenised again"))
    assert other.loglikelihood_rolling(asked, disable_tqdm=True) != first
    again = one.loglikelihood_rolling(asked, disable_tqdm=True)
    assert [(v, v.tokens) for v in map(rolling_value, again)] == [(v, v.tokens) for v in map(rolling_value, first)]


def test_another_context_length_is_another_plan(make_model):
    values(lm(make_model("olmo")))
    values(lm(make_model("olmo", context=64)))
    assert len(engine._plans) == 2


def test_plans_are_let_go_when_they_take_too_much(make_model, monkeypatch):
    monkeypatch.setattr(engine, "_BYTES", 1)
    values(lm(make_model("olmo")))
    values(lm(make_model("olmo", context=64)))
    assert len(engine._plans) == 1


def test_what_is_not_proven_takes_lm_evals_path_and_says_so(make_model, monkeypatch, caplog):
    monkeypatch.setattr("model_wrappers.architectures.proven.PROVEN", PROVEN - {"olmo"})
    monkeypatch.setattr(score, "score", lambda *_: pytest.fail("scored by prefixes"))
    model = lm(make_model("olmo"))
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        found = [values(model), values(model)]
    expected = HFLM(pretrained=str(make_model("olmo")), device="cpu").loglikelihood(instances("loglikelihood", PAIRS))
    assert found == [expected, expected]
    told = [r.getMessage() for r in caplog.records if r.name.startswith("model_wrappers.scoring")]
    assert told == ["scored on lm-eval's own path: architecture 'olmo' has not been proven"]


def test_scores_that_differ_when_compared_are_not_used(make_model, monkeypatch, caplog):
    """An attention that sees the future, as a broken mask would let it."""
    from model_wrappers.scoring import attention

    def sees_all(row, block, window=None):
        return np.ones((block.stop - block.start, len(block.keys)), bool)

    monkeypatch.setattr(attention, "visible", sees_all)
    model = lm(make_model("olmo"))
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        found = values(model)
    expected = HFLM(pretrained=str(make_model("olmo")), device="cpu").loglikelihood(instances("loglikelihood", PAIRS))
    assert found == expected
    assert "when compared" in caplog.text


def test_a_kernel_that_does_not_compile_leaves_the_run_to_lm_evals_path(make_model, monkeypatch, caplog):
    """torch.compile's own error, by a compiler that fails: on an accelerator without a C compiler, say."""
    from torch.nn.attention.flex_attention import flex_attention

    from model_wrappers.scoring import attention

    def broken(*_):
        raise FileNotFoundError("no C compiler was found")

    compiled = torch.compile(flex_attention, backend=broken)
    monkeypatch.setattr(attention, "_compiled", lambda: compiled)
    monkeypatch.setattr(attention, "_FLEX", ("cpu",))
    model = lm(make_model("olmo"))
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        found = [values(model), values(model)]
    expected = HFLM(pretrained=str(make_model("olmo")), device="cpu").loglikelihood(instances("loglikelihood", PAIRS))
    assert found == [expected, expected]
    (told,) = [r.getMessage() for r in caplog.records if r.name.startswith("model_wrappers.scoring")]
    assert "FlexAttention could not be compiled on cpu" in told
    assert "no C compiler was found" in told


def test_too_little_memory_halves_the_rows(make_model, monkeypatch, caplog):
    from model_wrappers.scoring import forward

    asked = instances("loglikelihood", [(f"{n} {TEXTS[0]}", f" {word}") for n in range(12) for word in ("fox", "dog")])
    expected = lm(make_model("olmo")).loglikelihood(asked, disable_tqdm=True)
    sizes: list[int] = []
    whole = forward.score_row

    def scarce(model, head, row, *rest):
        sizes.append(len(row.tokens))
        if len(row.tokens) > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(model, head, row, *rest)

    monkeypatch.setattr(forward, "score_row", scarce)
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        found = lm(make_model("olmo")).loglikelihood(asked, disable_tqdm=True)
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-5)
    assert max(sizes) > 300 >= sizes[-1]
    assert "tokens per forward pass from now on" in caplog.text


def test_on_an_accelerator_half_of_the_memory_is_for_passes_and_a_quarter_for_their_mask(make_model, monkeypatch):
    """FlexAttention's mask is made over all pairs of tokens: with a small model, that is what the memory limits."""
    model = lm(make_model("olmo")).model
    sizes = {}
    for free in (10**6, 10**9, 24 * 10**9, 10**13):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, free))
        sizes[free] = score.budget(model, torch.device("cuda"), 1024)
    assert [*sizes.values()] == sorted(sizes.values())
    assert sizes[10**6] == 1024  # a context at least
    assert all(10 * size**2 < free / 4 for free, size in sizes.items() if size > 1024)
    assert sizes[24 * 10**9] > 16_384


def test_another_error_is_not_taken_for_too_little_memory(make_model, monkeypatch):
    from model_wrappers.scoring import forward

    def broken(*_):
        raise RuntimeError("size mismatch")

    values(lm(make_model("olmo")))
    monkeypatch.setattr(forward, "score_row", broken)
    with pytest.raises(RuntimeError, match="size mismatch"):
        values(lm(make_model("olmo")))


def test_half_precision_is_near_single_precision(make_model):
    """Equality is claimed in fp32 only; the log-sum-exp is taken in fp32 in both."""
    single, half = values(lm(make_model("olmo"))), values(lm(make_model("olmo"), dtype="bfloat16"))
    assert [v for v, _ in half] == pytest.approx([v for v, _ in single], rel=0.1, abs=0.5)
    assert half != single


def test_a_model_that_says_nothing_but_nan_does_not_end_the_run(make_model):
    model = lm(make_model("olmo"))
    with torch.no_grad():
        model.model.get_output_embeddings().weight.fill_(float("nan"))
    assert all(np.isnan(value) for value, _ in values(model))


def test_scoring_is_an_argument(make_model):
    with pytest.raises(ConfigError, match="scoring"):
        lm(make_model("olmo"), scoring="fast")


def test_a_continuation_without_tokens_is_refused(make_model):
    with pytest.raises(DataError, match="no token to score"):
        lm(make_model("olmo")).loglikelihood(instances("loglikelihood", [("Eat", "")]), disable_tqdm=True)
