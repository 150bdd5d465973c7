"""Exports: records that keep every rule of the every_eval_ever schema, and lm-eval's folder."""

from __future__ import annotations

import json
import math
import re

import pytest

import overtrain.report.export as forms
from model_wrappers.errors import ConfigError, StoreError
from overtrain.report.export import export, form_names, load_form
from overtrain.report.export.form import ExportForm


def exported(root, out, **options):
    """Return the files of an export, in a fixed order."""
    return sorted(p for p in export(root, out, **options).rglob("*") if p.is_file())


UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def run(make_study, lose_cells, make_run, tmp_path_factory):
    frame, documents = make_study(
        "u", budgets=(1_000, 2_000), rates=(1e-4,), gammas=(0.3,), seeds=2, tasks=("alpha",), documents=5
    )
    frame, documents = lose_cells(frame, documents, (frame["gamma"] == 0.3) & (frame["seed"] == 1), "failed")
    return make_run(tmp_path_factory.mktemp("runs") / "a <b>", frame, documents), frame


def _strings(details):
    assert details
    assert all(isinstance(v, str) for v in details.values()), details


def check_record(path, content):
    """Assert the rules of eval.schema.json 0.3.0 and of its validator that apply to what we write."""
    required = {
        "schema_version",
        "evaluation_id",
        "retrieved_timestamp",
        "source_metadata",
        "model_info",
        "eval_library",
    }
    assert set(content) == required | {"evaluation_timestamp", "evaluation_results"}
    assert content["schema_version"] == "0.3.0"
    assert content["retrieved_timestamp"].isdecimal()
    source = content["source_metadata"]
    assert source["source_type"] in {"documentation", "evaluation_run"}
    assert source["evaluator_relationship"] in {"first_party", "third_party", "collaborative", "other"}
    assert source["source_organization_name"]
    assert set(content["eval_library"]) >= {"name", "version"}
    _strings(content["eval_library"]["additional_details"])
    model = content["model_info"]
    assert set(model) >= {"name", "id", "additional_details"}
    _strings(model["additional_details"])
    assert model["additional_details"]["deployment_type"] in {"self_deployed", "externally_managed", "unknown"}
    assert model["additional_details"]["model_availability"] in {"open_weights", "closed_weights", "unknown"}
    assert content["evaluation_results"]
    for result in content["evaluation_results"]:
        assert set(result) >= {"evaluation_name", "source_data", "metric_config", "score_details"}
        assert result["source_data"]["source_type"] in {"url", "hf_dataset", "other"}
        assert ("hf_repo" in result["source_data"]) == (result["source_data"]["source_type"] == "hf_dataset")
        metric, score = result["metric_config"], result["score_details"]["score"]
        assert isinstance(metric["lower_is_better"], bool)
        assert metric["score_type"] == "continuous"
        low, high = (float(metric[k]) for k in ("min_score", "max_score"))
        assert low <= score <= high
        assert math.isfinite(score)
        for key, infinite in (("min_score", "-Infinity"), ("max_score", "Infinity")):
            assert isinstance(metric[key], int | float) or metric[key] == infinite
        if "generation_config" in result:
            _strings(result["generation_config"]["additional_details"])
    assert re.fullmatch(rf"data/[\w.-]+/[\w.-]+/[\w.-]+/{UUID4}\.json", path)
    assert model["id"] == "/".join(path.split("/")[2:4])


def test_records_keep_the_rules_of_the_schema(run, tmp_path):
    root, frame = run
    written = exported(root, tmp_path, form="every_eval_ever", organization="us")
    done = frame[frame["status"] == "done"]
    assert len(written) == done["cell_id"].nunique() == 8
    ids, scores = set(), {}
    for path in written:
        content = json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
        check_record(str(path.relative_to(tmp_path)), content)
        ids.add(content["evaluation_id"])
        about = content["model_info"]["additional_details"]
        for result in content["evaluation_results"]:
            key = (
                int(about["pretraining_tokens"]),
                about["variant"],
                about.get("seed"),
                result["evaluation_result_id"],
            )
            scores[key] = result["score_details"]["score"]
    assert len(ids) == 8
    truth = {
        (int(r.tokens), r.variant, None if r.variant == "base" else str(r.seed), f"{r.task}/{r.metric}"): r.value
        for r in done[done["task"] != "training"].itertuples()
    }
    assert scores == pytest.approx(truth)


def test_a_modified_model_never_has_its_bases_name(run, tmp_path):
    root, _ = run
    by_variant = {}
    for path in exported(root, tmp_path, form="every_eval_ever"):
        content = json.loads(path.read_text("utf-8"))
        by_variant.setdefault(content["model_info"]["additional_details"]["variant"], []).append(
            content["model_info"]["id"]
        )
        assert content["source_metadata"]["evaluator_relationship"] == "other"
    every = [name for names in by_variant.values() for name in names]
    assert len(set(every)) == len(every)
    assert sorted(by_variant["base"]) == ["local/tiny-tiny-1000", "local/tiny-tiny-2000"]


def test_a_record_names_the_data_without_its_folder(run, tmp_path):
    root, _ = run
    texts = [path.read_text("utf-8") for path in exported(root, tmp_path, form="every_eval_ever")]
    assert not any("/disk/" in text for text in texts if "rows.jsonl" in text)
    assert sum("rows.jsonl" in text for text in texts) == 2 * 2  # two budgets, two seeds of the tuned variant


def test_repositories_keep_their_owner_and_revision(make_study, make_run, tmp_path):
    frame, documents = make_study("u", budgets=(1_000,), rates=(), gammas=(), tasks=("alpha",), documents=5)
    frame["checkpoint"] = "allenai/OLMo-1B-hf@step-1"
    root = make_run(tmp_path / "runs", frame, documents, repo="allenai/OLMo-1B-hf")
    (path,) = exported(root, tmp_path / "out", form="every_eval_ever")
    content = json.loads(path.read_text("utf-8"))
    assert content["model_info"]["id"] == "allenai/OLMo-1B-hf-step-1"
    assert content["model_info"]["additional_details"]["model_availability"] == "open_weights"
    alpha = next(r for r in content["evaluation_results"] if r["evaluation_name"] == "alpha")
    assert alpha["source_data"] == {
        "dataset_name": "alpha",
        "source_type": "hf_dataset",
        "hf_repo": "org/alpha",
        "hf_split": "test",
    }
    text = next(r for r in content["evaluation_results"] if r["evaluation_name"] == "text")
    assert text["metric_config"]["max_score"] == "Infinity"
    (path,) = exported(root, tmp_path / "lm", form="lm_eval")
    assert path.parent.name == "allenai__OLMo-1B-hf-step-1"


def test_lm_evals_folder(run, tmp_path):
    root, _ = run
    written = exported(root, tmp_path, form="lm_eval")
    assert len({p.parent for p in written}) == len(written) == 8
    for path in written:
        assert re.fullmatch(r"results_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}\.json", path.name)
        content = json.loads(path.read_text("utf-8"))
        owner, _, name = path.parent.name.partition("__")
        assert content["model_name"] == content["config"]["model_name"] == f"{owner}/{name}"
        assert content["config"]["overtrain"]["dtype"] == "float32"
        assert "secret host" not in path.read_text("utf-8")
    assert written[0].name == "results_2026-11-21T02-12-15.500000.json"


def test_the_same_study_has_the_same_files(run, tmp_path):
    root, _ = run
    first = {p: p.read_bytes() for p in exported(root, tmp_path, form="every_eval_ever")}
    second = {p: p.read_bytes() for p in exported(root, tmp_path, form="every_eval_ever")}
    assert first == second


def test_what_cannot_be_exported(run, tmp_path):
    root, _ = run
    with pytest.raises(ConfigError, match="every_eval_ever, lm_eval"):
        export(root, tmp_path, form="csv")
    with pytest.raises(StoreError, match="overtrain sweep"):
        export(tmp_path, tmp_path / "x", form="lm_eval")


@pytest.mark.parametrize("name", form_names())
def test_a_form_is_found_by_its_files_name_and_says_what_it_needs(name, tmp_path):
    form = load_form(name)
    assert isinstance(form, ExportForm)
    assert type(form).__doc__
    with pytest.raises(StoreError, match=r"overtrain (sweep|judge)"):
        export(tmp_path, tmp_path / "x", form=name)


def test_one_file_adds_a_form(run, tmp_path, monkeypatch):
    root, frame = run
    folder = tmp_path / "forms"
    folder.mkdir()
    (folder / "names.py").write_text(
        "from overtrain.report.export.form import OneFilePerCell\n"
        "class Names(OneFilePerCell):\n"
        "    '''One file per cell with its model's name.'''\n"
        "    def content(self, cell, organization):\n"
        "        return f'{cell.model}.json', {'by': organization, 'cell': cell.model}\n"
    )
    monkeypatch.setattr(forms, "__path__", [*forms.__path__, str(folder)])
    written = exported(root, tmp_path / "out", form="names", organization="us")
    assert len(written) == frame.loc[frame["status"] == "done", "cell_id"].nunique()
    assert {json.loads(path.read_text())["by"] for path in written} == {"us"}
