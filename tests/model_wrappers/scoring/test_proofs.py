"""The comparison with lm-eval's own scores: from strings on, made once under the same circumstances, and kept."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from model_wrappers.compat import instance, rolling_request
from model_wrappers.lm import FineTunedLM, PerturbedLM
from model_wrappers.scoring import comparison, engine, proofs
from model_wrappers.scoring.tokens import Request

pytestmark = pytest.mark.spine

TEXT = "The quick brown fox jumps over the lazy dog. "
PAIRS = [(TEXT * 3, f" {word}") for word in ("fox", "dog", "quick brown", "egg")] + [("Eat", " well"), ("", "walk")]
INSIDE = [("How do I bo", "il an egg?"), ("The qui", "ck brown fox"), ("Put it into boil", "ing water")]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(engine, "_plans", type(engine._plans)())
    monkeypatch.setattr(proofs, "_known", {})


@pytest.fixture
def compared(monkeypatch):
    """Comparisons that were made, by number of requests."""
    made = []
    real = engine.compare
    monkeypatch.setattr(
        engine,
        "compare",
        lambda lm, plain, requests, size: (made.append(len(requests)), real(lm, plain, requests, size))[1],
    )
    return made


def lm(folder, **more) -> PerturbedLM:
    return PerturbedLM(pretrained=str(folder), gamma=0, device="cpu", **more)


def asked(pairs):
    return [instance("loglikelihood", pair, task="t", document=i) for i, pair in enumerate(pairs)]


def values(model, pairs=PAIRS):
    return model.loglikelihood(asked(pairs), disable_tqdm=True)


def another_process(monkeypatch):
    monkeypatch.setattr(proofs, "_known", {})


def test_tokens_that_merge_over_the_border_are_split_as_lm_eval_splits_them(make_model, caplog):
    folder = make_model("olmo")
    host = HFLM(pretrained=str(folder), device="cpu")
    merged = [host.tok_encode(c + t)[: len(host.tok_encode(c))] != host.tok_encode(c) for c, t in INSIDE]
    assert all(merged)
    with caplog.at_level(logging.WARNING, "model_wrappers"):
        found = values(lm(folder), INSIDE)
    expected = host.loglikelihood(asked(INSIDE))
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)
    assert [g for _, g in found] == [g for _, g in expected]
    assert "plain" not in caplog.text
    assert "own path" not in caplog.text


def test_other_tokens_than_lm_evals_are_seen_whatever_was_proven_before(make_model, monkeypatch, caplog):
    """Splitting the whole text's tokens, instead of standing the context's own before the rest."""
    folder = make_model("olmo")
    values(lm(folder))

    def whole(model, pairs):
        for context, text in pairs:
            ids = model.tok_encode(context + text)
            yield Request(
                torch.tensor(ids, dtype=torch.int32).numpy(), max(len(ids) - len(model.tok_encode(context)), 1)
            )

    monkeypatch.setattr(engine, "encode", whole)
    monkeypatch.setattr(comparison, "encode", whole)
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        found = values(lm(folder), INSIDE)
    assert found == HFLM(pretrained=str(folder), device="cpu").loglikelihood(asked(INSIDE))
    assert "came out as other tokens than lm-eval's" in caplog.text


def test_requests_of_the_same_tokens_that_split_them_differently_do_not_fail_the_proof(make_model, caplog):
    """lm-eval's ``logits_cache`` answers both from the first one's tokens."""
    folder = make_model("olmo")
    twice = [("The quick brown", " fox jumps over"), ("The quick brown fox jumps", " over")]
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        found = values(lm(folder), twice)
    expected = HFLM(pretrained=str(folder), device="cpu", logits_cache=False).loglikelihood(asked(twice))
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)
    assert not caplog.records


def test_a_proof_is_read_back_by_the_next_process_whatever_the_weights(make_model, monkeypatch, compared):
    first = values(lm(make_model("olmo", seed=0)))
    assert len(compared) == 1
    another_process(monkeypatch)
    other = values(lm(make_model("olmo", seed=1)))
    assert len(compared) == 1
    assert other != first
    (kept,) = proofs.proofs()
    assert (kept.reason, kept.about["model"].rpartition(".")[2]) == (None, "OlmoForCausalLM")


def _config(folder, tmp_path, **changed):
    copy = tmp_path / "changed"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changed))
    return copy


@pytest.mark.parametrize(
    ("arguments", "configuration", "pairs"),
    [
        ({"dtype": "bfloat16"}, {}, PAIRS),
        ({"max_length": 512}, {}, PAIRS),
        ({"attn_implementation": "eager"}, {}, PAIRS),
        ({"softmax_dtype": "float64"}, {}, PAIRS),
        ({}, {"clip_qkv": 3.0}, PAIRS),
        ({}, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, PAIRS),
        ({}, {}, [(TEXT * 20, " fox"), *PAIRS]),
    ],
    ids=["dtype", "max_length", "attention", "softmax_dtype", "configuration", "rope", "longer requests"],
)
def test_under_other_circumstances_it_is_made_again(
    make_model, tmp_path, monkeypatch, compared, arguments, configuration, pairs
):
    folder = make_model("olmo")
    values(lm(folder))
    values(lm(_config(folder, tmp_path, **configuration), **arguments), pairs)
    assert len(compared) == 2
    another_process(monkeypatch)
    values(lm(folder))
    assert len(compared) == 2


def test_a_configuration_that_names_another_origin_is_the_same(make_model, tmp_path, compared):
    folder = make_model("olmo")
    values(lm(folder))
    values(lm(_config(folder, tmp_path, _name_or_path="elsewhere", transformers_version="5.0.0")))
    assert len(compared) == 1


def test_base_and_tuned_weights_share_a_proof(make_model, tmp_path, compared):
    """Training leaves another configuration behind: ``use_cache`` is off."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1 + 1 =", "completion": " 2"}\n' * 4)
    folder = make_model("olmo")
    values(lm(folder))
    tuning = {"data": str(rows), "learning_rate": 1e-2, "max_steps": 1, "train_batch_size": 4, "device": "cpu"}
    values(FineTunedLM(pretrained=str(folder), **tuning))
    assert len(compared) == 1


def test_other_code_or_libraries_prove_anew(make_model, monkeypatch, compared):
    values(lm(make_model("olmo")))
    monkeypatch.setattr(proofs, "_code", lambda: "edited")
    values(lm(make_model("olmo")))
    monkeypatch.setattr(proofs, "version", lambda name: f"next {name}")
    values(lm(make_model("olmo")))
    assert len(compared) == 3


def test_whole_texts_are_proven_by_themselves(make_model, compared):
    model = lm(make_model("olmo"))
    values(model)
    model.loglikelihood_rolling(
        [instance("loglikelihood_rolling", rolling_request(TEXT), task="t", document=0)], disable_tqdm=True
    )
    assert len(compared) == 2


def test_a_model_with_hooks_is_compared_every_time(make_model, compared):
    """Nobody can tell what a hook does."""
    for _ in range(2):
        model = lm(make_model("olmo"))
        model.model.get_output_embeddings().register_forward_hook(lambda *_: None)
        values(model)
    assert len(compared) == 2
    assert proofs.proofs() == []


def test_a_failed_proof_is_kept_with_its_reason_until_it_is_forgotten(make_model, monkeypatch, compared, caplog):
    failed = comparison.Comparison("they differ", telling=True)
    real = engine.compare
    monkeypatch.setattr(engine, "compare", lambda *_: (compared.append(0), failed)[1])
    folder = make_model("olmo")
    plain = values(lm(folder, scoring="plain"))
    assert values(lm(folder)) == plain
    another_process(monkeypatch)
    monkeypatch.setattr(engine, "compare", real)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "model_wrappers.scoring"):
        assert values(lm(folder)) == plain
    assert len(compared) == 1
    assert "they differ" in caplog.text
    assert "overtrain cache proofs --forget" in caplog.text

    assert proofs.forget() == 1
    values(lm(folder))
    assert len(compared) == 2
    assert [proof.reason for proof in proofs.proofs()] == [None]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"reason": 3, "made": "", "about": {}}', '{"reason": null}'])
def test_a_file_that_is_no_proof_is_not_believed(make_model, monkeypatch, compared, own_cache, content):
    values(lm(make_model("olmo")))
    (file,) = (own_cache / "proofs").iterdir()
    file.write_text(content)
    another_process(monkeypatch)
    values(lm(make_model("olmo")))
    assert len(compared) == 2


def test_where_nothing_can_be_written_every_process_compares(make_model, monkeypatch, compared, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OVERTRAIN_CACHE", str(tmp_path / "file"))
    for processes in (1, 2):
        found = values(lm(make_model("olmo")))
        values(lm(make_model("olmo", seed=1)))
        assert len(compared) == processes
        another_process(monkeypatch)
    assert [v for v, _ in found] == pytest.approx(
        [v for v, _ in values(lm(make_model("olmo"), scoring="plain"))], abs=1e-4
    )


@pytest.mark.parametrize("value", [float("nan"), 0.0], ids=["nan", "uniform"])
def test_a_model_whose_scores_say_nothing_proves_nothing(make_model, value):
    """All NaN, or all tokens equally likely whatever the context: a wrong mask would not show."""
    model = lm(make_model("olmo"))
    with torch.no_grad():
        model.model.get_output_embeddings().weight.fill_(value)
    values(model)
    assert proofs.proofs() == []
