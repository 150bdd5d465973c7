"""Ratios over documents with their errors, against hand computations, through lm-eval's own evaluation."""

from __future__ import annotations

import json
import logging
import math
import random
import statistics

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table

import overtrain_tasks
from model_wrappers.compat import rolling_answer, rolling_request, rolling_text
from model_wrappers.errors import ConfigError, DataError
from model_wrappers.scoring.rolling import RollingLogLikelihood
from overtrain_tasks.perplexity import ratio

pytestmark = pytest.mark.spine

TEXTS = ["Grüße aus Köln.", "A much longer document, with several words more than the others have.", "x y z", "Ende €"]


class CountingLM(LM):
    """Tells its tokens: words; -1.5 nats a word and -0.25 a character."""

    counts = True

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        answers = []
        for text in (rolling_text(request.args) for request in requests):
            value = -1.5 * len(text.split()) - 0.25 * len(text)
            answers.append(rolling_answer(RollingLogLikelihood(value, len(text.split())) if self.counts else value))
        return answers

    def loglikelihood(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


class SilentLM(CountingLM):
    counts = False


def load(name, **metadata):
    manager = TaskManager(include_defaults=False, include_path=str(overtrain_tasks.path()), metadata=metadata)
    return manager.load([name])


def evaluate(lm, loaded, **kwargs):
    return evaluator.evaluate(lm=lm, task_dict=loaded, log_samples=False, **kwargs)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "held_out.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def by_hand(pairs):
    """Nats per unit and its error, spelled out."""
    n = len(pairs)
    y, x = [-loglikelihood for loglikelihood, _ in pairs], [units for _, units in pairs]
    value = sum(y) / sum(x)
    mean_units = sum(x) / n
    residuals = [(a - value * b) / mean_units for a, b in zip(y, x, strict=True)]
    return value, math.sqrt(sum(r * r for r in residuals) / (n - 1) / n)


def test_metrics_and_errors_by_hand(text_file):
    results = evaluate(CountingLM(), load("overtrain_text", text_file=str(text_file)))
    scores = results["results"]["overtrain_text"]
    loglikelihoods = [-1.5 * len(t.split()) - 0.25 * len(t) for t in TEXTS]
    per_byte, per_byte_error = by_hand([(ll, len(t.encode())) for ll, t in zip(loglikelihoods, TEXTS, strict=True)])
    per_token, per_token_error = by_hand([(ll, len(t.split())) for ll, t in zip(loglikelihoods, TEXTS, strict=True)])
    expected = {
        "bits_per_byte,none": per_byte / math.log(2),
        "bits_per_byte_stderr,none": per_byte_error / math.log(2),
        "byte_perplexity,none": math.exp(per_byte),
        "byte_perplexity_stderr,none": math.exp(per_byte) * per_byte_error,
        "nll_per_token,none": per_token,
        "nll_per_token_stderr,none": per_token_error,
        "token_perplexity,none": math.exp(per_token),
        "token_perplexity_stderr,none": math.exp(per_token) * per_token_error,
    }
    assert {key: scores[key] for key in expected} == pytest.approx(expected)
    assert scores["sample_len"] == 4
    assert set(scores) - set(expected) == {"name", "alias", "sample_len"} | {
        key.replace("_stderr", "_stderr_stderr") for key in expected if "_stderr" in key
    }
    assert results["higher_is_better"]["overtrain_text"]["nll_per_token"] is False


def test_tables_show_value_and_error_and_nothing_else(text_file):
    results = evaluate(CountingLM(), load("overtrain_text", text_file=str(text_file)))
    rows = [[cell.strip() for cell in line.split("|")] for line in make_table(results).splitlines()[2:] if line]
    shown = {row[5]: (row[7], row[9]) for row in rows}
    scores = results["results"]["overtrain_text"]
    assert shown == {
        name: (f"{scores[f'{name},none']:.4f}", f"{scores[f'{name}_stderr,none']:.4f}")
        for name in ("bits_per_byte", "byte_perplexity", "nll_per_token", "token_perplexity")
    }


def test_without_token_counts_the_token_metrics_are_missing(text_file):
    scores = evaluate(SilentLM(), load("overtrain_text", text_file=str(text_file)))["results"]["overtrain_text"]
    assert not [key for key in scores if "token" in key]
    assert scores["bits_per_byte_stderr,none"] > 0


def test_limit_and_bootstrap_iters(text_file):
    loaded = load("overtrain_text", text_file=str(text_file))
    scores = evaluate(CountingLM(), loaded, limit=2, bootstrap_iters=0)["results"]["overtrain_text"]
    assert scores["sample_len"] == 2
    per_token, error = by_hand([(-1.5 * len(t.split()) - 0.25 * len(t), len(t.split())) for t in TEXTS[:2]])
    assert (scores["nll_per_token,none"], scores["nll_per_token_stderr,none"]) == pytest.approx((per_token, error))


def test_equal_documents_units_give_the_error_of_a_mean():
    values = [-3.0, -4.5, -7.0, -2.0, -5.5]
    pairs = [(value, 10) for value in values]
    assert ratio.nll_per_unit(pairs) == pytest.approx(-statistics.mean(values) / 10)
    assert ratio.nll_per_unit_stderr(pairs) == pytest.approx(statistics.stdev(values) / math.sqrt(5) / 10)


def test_the_error_equals_the_bootstraps():
    generator = random.Random(0)
    pairs = []
    for _ in range(300):
        units = generator.randint(20, 400)
        pairs.append((-units * generator.gauss(3.0, 0.5), units))
    resampled = [ratio.nll_per_unit(generator.choices(pairs, k=300)) for _ in range(2000)]
    assert ratio.nll_per_unit_stderr(pairs) == pytest.approx(statistics.stdev(resampled), rel=0.08)


def test_one_document_has_no_error_and_damage_is_infinite():
    assert ratio.nll_per_unit_stderr([(-1.0, 2)]) == "N/A"
    assert ratio.perplexity_stderr([(-1.0, 2)]) == "N/A"
    assert ratio.bits_per_byte_stderr([(-1.0, 2)]) == "N/A"
    assert ratio.perplexity([(-10_000.0, 1), (-9_000.0, 1)]) == math.inf
    assert ratio.nll_per_unit([(-10_000.0, 1), (-9_000.0, 1)]) == 9_500


def test_hflm_by_hand(text_file, make_model):
    """lm-eval's own HFLM: windows of 16 tokens, one EOS before the first, every token once."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, length = make_model("llama"), 16
    lm = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=3, max_length=length)
    scores = evaluate(lm, load("overtrain_text", text_file=str(text_file)))["results"]["overtrain_text"]

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs, windows = [], 0
    for text in TEXTS:
        tokens, total = tokenizer.encode(text), 0.0
        for start in range(0, len(tokens), length):
            end = min(start + length, len(tokens))
            seen = [tokenizer.eos_token_id, *tokens[: end - 1]] if start == 0 else tokens[end - 1 - length : end - 1]
            with torch.no_grad():
                logprobs = model(torch.tensor([seen])).logits[0].log_softmax(-1)[-(end - start) :]
            total += logprobs[range(end - start), tokens[start:end]].sum().item()
            windows += 1
        pairs.append((total, len(text.encode())))
    assert windows > len(TEXTS) + 2, "some document must need more than one window"
    value, error = by_hand(pairs)
    assert scores["bits_per_byte,none"] == pytest.approx(value / math.log(2), rel=1e-5)
    assert scores["bits_per_byte_stderr,none"] == pytest.approx(error / math.log(2), rel=1e-4)
    assert not [key for key in scores if "token" in key]


def test_c4_reads_the_first_documents(real_rows, build):
    loaded = load("overtrain_c4", documents=7)
    task = loaded["tasks"]["overtrain_c4"]
    lines = (real_rows / "c4_en" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    assert [strings for _, _, strings in build(task)] == [
        rolling_request(json.loads(line)["text"]) for line in lines[:7]
    ]
    metadata = task.dump_config()["metadata"]
    assert (metadata["documents"], metadata["documents_empty"], metadata["data_source"]) == (7, 0, "mirror")
    assert "disjoint windows" in metadata["window"]
    assert "BOS" in metadata["prefix"]
    assert task.dump_config()["num_fewshot"] == 0


def test_c4_reads_5000_documents_unless_told_otherwise(mirror):
    mirror("c4_en", "validation", [{"text": f"document {n}"} for n in range(5003)])
    task = load("overtrain_c4")["tasks"]["overtrain_c4"]
    assert len(task.eval_docs) == task.metadata["documents"] == 5000


@pytest.mark.parametrize("documents", [0, -3, "all", 2.5])
def test_a_bad_number_of_documents(documents, mirror):
    mirror("c4_en", "validation", [{"text": "a"}])
    with pytest.raises(ConfigError, match=rf"documents={documents!r} in the metadata: must be an integer of 1 or more"):
        load("overtrain_c4", documents=documents)


def test_empty_documents_are_left_out_and_counted(tmp_path, caplog):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": ""}\n{"text": "a"}\n{"text": ""}\n')
    with caplog.at_level(logging.WARNING):
        task = load("overtrain_text", text_file=str(path))["tasks"]["overtrain_text"]
    assert task.eval_docs["text"][:] == ["a"]
    assert task.metadata["documents_empty"] == 2
    assert "overtrain_text: 2 documents without text are left out" in caplog.text
    path.write_text('{"text": ""}\n')
    with pytest.raises(DataError, match="all 1 documents are empty"):
        load("overtrain_text", text_file=str(path))


def test_text_formats(tmp_path, monkeypatch, text_file):
    def texts(**metadata):
        task = load("overtrain_text", **metadata)["tasks"]["overtrain_text"]
        assert task.metadata["data_source"] == "file"
        return task.eval_docs["text"][:], task.metadata["text_file"]

    plain, parquet = tmp_path / "book.txt", tmp_path / "rows.parquet"
    plain.write_bytes("Erste Zeile\r\nzweite € Zeile\n".encode())
    pq.write_table(pa.table({"text": TEXTS}), parquet)
    assert texts(text_file=str(text_file)) == (TEXTS, str(text_file))
    assert texts(text_file=str(parquet)) == (TEXTS, str(parquet))
    assert texts(text_file=str(plain)) == (["Erste Zeile\r\nzweite € Zeile\n"], str(plain))
    monkeypatch.setenv("OVERTRAIN_TEXT", str(plain))
    assert texts()[1] == str(plain)
    assert texts(text_file=str(parquet))[1] == str(parquet)  # the metadata come first


def test_bad_text_files(tmp_path):
    with pytest.raises(ConfigError, match=r"overtrain_text: no text file given.*OVERTRAIN_TEXT=PATH"):
        load("overtrain_text")
    with pytest.raises(DataError, match=r"must end in \.jsonl, \.parquet or \.txt"):
        load("overtrain_text", text_file=str(tmp_path / "a.csv"))
    with pytest.raises(DataError, match="no such file"):
        load("overtrain_text", text_file=str(tmp_path / "a.txt"))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8"):
        load("overtrain_text", text_file=str(tmp_path / "a.txt"))
    (tmp_path / "a.jsonl").write_text('{"page": "x"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: 'text' missing, the row has page"):
        load("overtrain_text", text_file=str(tmp_path / "a.jsonl"))


def test_predict_only_reports_no_metric(text_file):
    task = load("overtrain_text", text_file=str(text_file))["tasks"]["overtrain_text"]
    task.override_metric("bypass")
    assert task.process_results(task.eval_docs[0], [-1.0]) == {}
