"""The tidy frame and the documents beside it."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
from overtrain_tiny import CELLS, TEXTS, write_study
from study_records import cell_record, write_cells

from model_wrappers.errors import StoreError
from model_wrappers.identity import digest
from overtrain.analysis.design import minimum_detectable_effect
from overtrain.analysis.long import long_form
from overtrain.plan.estimate import validate
from overtrain.results.frame import COLUMNS, load_documents, load_runs, load_study
from overtrain.results.metrics import document_columns, metric_rows, training_rows
from overtrain.results.store import FILES, Store
from overtrain.run.sweep import run


@pytest.fixture(scope="module")
def study(make_model, tmp_path_factory):
    """The folder of a study that was run once."""
    folder = tmp_path_factory.mktemp("frame")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERTRAIN_CACHE", str(folder / "cache"))
        path = write_study(folder, make_model("olmo", seed=0), make_model("olmo", seed=1))
        path.write_text(path.read_text().replace("max_steps: 2", "max_steps: 2\n        validation_fraction: 0.2"))
        run(path, folder / "runs")
    return folder / "runs" / "tiny"


def test_one_row_per_cell_task_and_metric_with_labels_and_fields(study):
    frame = load_runs(study)
    assert list(frame.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert not frame.duplicated(["cell_id", "task", "metric"]).any()
    assert frame["cell_id"].nunique() == CELLS
    assert set(frame["status"]) == {"done"}
    assert set(frame["tokens"]) == {1000, 2000}
    assert set(frame["study"]) == {"tiny"}
    assert (frame["seed"].isna() == (frame["variant"] == "base")).all()
    assert (frame["gamma"].notna() == (frame["variant"] == "noise")).all()
    assert set(frame.loc[frame["variant"] == "sft", "learning_rate"]) == {0.01}
    assert set(frame["modification"]) == {"base", "gaussian", "finetune"}
    assert [str(frame[c].dtype) for c in ("tokens", "seed", "value", "n_documents", "gamma")] == [
        "int64", "Int64", "float64", "Int64", "float64",
    ]  # fmt: skip
    texts = frame[frame["task"] == "overtrain_text"]
    assert set(texts["n_documents"]) == {len(TEXTS)}
    assert not texts["higher_is_better"].any()


def test_training_metrics_are_rows_of_the_task_training(study):
    frame = load_runs(study).query("task == 'training'").set_index(["variant", "metric"])
    assert set(frame.loc["noise"].index) == {"distance"}
    assert {"train_loss", "validation_loss", "distance"} <= set(frame.loc["sft"].index)
    loss = frame.loc[("sft", "validation_loss")]
    assert (loss["stderr"] > 0).all()
    assert frame.loc[("sft", "distance"), "stderr"].isna().all()
    assert frame["n_documents"].isna().all()


def test_documents_weigh_up_to_the_metric(study):
    frame = load_runs(study).query("task != 'training'").set_index(["cell_id", "task", "metric"])
    documents = load_documents(study)
    assert list(documents.columns) == ["cell_id", "task", "metric", "document", "value", "weight"]
    assert documents["document"].dtype == "int64"
    assert set(documents["metric"]) == {"nll_per_token", "bits_per_byte"}  # perplexities have no value per document
    assert len(documents) == CELLS * 2 * len(TEXTS)
    for key, part in documents.groupby(["cell_id", "task", "metric"], observed=True):
        assert list(part["document"]) == list(range(len(TEXTS)))
        assert np.average(part["value"], weights=part["weight"]) == pytest.approx(frame.loc[key, "value"], rel=1e-12)
    sizes = documents.query("metric == 'bits_per_byte'").groupby("document")["weight"].first()
    assert list(sizes) == [len(t.encode()) for t in TEXTS]


def test_documents_can_be_chosen(study):
    cell = load_runs(study)["cell_id"].iloc[0]
    some = load_documents(study, metrics=["bits_per_byte"], cells=[cell])
    assert len(some) == len(TEXTS)
    assert set(some["cell_id"]) == {cell}
    nothing = load_documents(study, tasks=["none"])
    assert len(nothing) == 0
    assert list(nothing.columns) == list(some.columns)


def test_the_analysis_takes_both_frames(study):
    runs = load_runs(study).query("variant == 'noise'")
    table = long_form(runs, load_documents(study), task="overtrain_text", metric="nll_per_token")
    assert len(table) == 2 * 2 * len(TEXTS)
    assert set(table["budget"]) == {1000, 2000}


def test_what_the_study_said_of_itself(study):
    about = load_study(study)
    assert about.name == "tiny"
    assert about.budgets == (1000, 2000)
    assert (about.select.task, about.select.metric) == ("training", "validation_loss")
    assert about.primary is None
    assert [(variant.name, variant.category) for variant in about.variants] == [("noise", "noise"), ("sft", "finetune")]


def test_a_folder_without_a_study_says_which_studies_are_near(study, tmp_path):
    with pytest.raises(StoreError, match="holds no study"):
        load_runs(tmp_path)
    with pytest.raises(StoreError, match="studies in it: tiny"):
        load_runs(study.parent)


def test_metric_rows_keep_filters_groups_and_missing_errors():
    results = {
        "results": {
            "qa": {
                "alias": "qa",
                "sample_len": 3,
                "acc,none": 0.5,
                "acc_stderr,none": 0.1,
                "em,strict": 1.0,
                "em_stderr,strict": "N/A",
            },
            "group": {"acc,none": 0.5, "acc_stderr,none": "N/A"},
        },
        "n-samples": {"qa": {"original": 9, "effective": 3}},
        "higher_is_better": {"qa": {"acc": True, "em": True}, "group": {"acc": True}},
    }  # fmt: skip
    rows = pd.DataFrame(metric_rows(results)).set_index(["task", "metric"])
    assert list(rows.index) == [("qa", "acc"), ("qa", "em,strict"), ("group", "acc")]
    assert rows.loc[("qa", "acc"), "stderr"] == 0.1
    assert rows.loc[("qa", "em,strict")].isna()["stderr"]
    assert rows.loc[("group", "acc")].isna()["n_documents"]
    assert rows.loc[("qa", "acc"), "n_documents"] == 3


def test_training_rows_of_two_steps_do_not_overwrite_each_other():
    rows = training_rows([{"distance": 1.0, "validation_loss": 2.0, "validation_loss_stderr": 0.5}, {"distance": 3.0}])
    found = {row.metric: (row.value, row.stderr) for row in rows}
    assert found == {"distance": (1.0, None), "validation_loss": (2.0, 0.5), "distance_2": (3.0, None)}


def test_documents_of_means_ratios_and_everything_else():
    names = ["acc", "f1", "bits_per_byte"]
    samples = {
        "qa": [
            {"doc_id": 4, "filter": "none", "metrics": names, "acc": True, "f1": (1, 0), "bits_per_byte": 0.7},
            {"doc_id": 7, "filter": "none", "metrics": names, "acc": 0.0, "f1": (0, 0), "bits_per_byte": 0.9},
        ],
        "text": [{"doc_id": 0, "filter": "none", "metrics": ["bits_per_byte", "nll_per_token", "token_perplexity"],
                  "bits_per_byte": (-np.log(2) * 6, 3), "nll_per_token": (-8.0, 4), "token_perplexity": (-8.0, 4)}],
    }  # fmt: skip
    columns = document_columns(samples, lambda task, metric: (task, metric) in {("qa", "acc"), ("qa", "bits_per_byte")})
    rows = list(zip(*(columns[k] for k in ("task", "metric", "document", "value", "weight")), strict=True))
    assert rows == [
        ("qa", "acc", 4, 1.0, 1.0), ("qa", "bits_per_byte", 4, 0.7, 1.0),
        ("qa", "acc", 7, 0.0, 1.0), ("qa", "bits_per_byte", 7, 0.9, 1.0),
        ("text", "bits_per_byte", 0, pytest.approx(2.0), 3.0), ("text", "nll_per_token", 0, 2.0, 4.0),
    ]  # fmt: skip


def test_many_cells_are_recognised_and_loaded_quickly(tmp_path):
    """200 cells here in a fifth of what 1,000 may take (5 s); `python -m benchmarks.sweep` measures the whole."""
    store = Store(tmp_path)
    store.prepare()
    rows = [{"task": f"t{t}", "metric": m, "value": 0.5, "stderr": 0.1, "n_documents": 500, "higher_is_better": True}
            for t in range(10) for m in ("acc", "acc_norm", "bits_per_byte", "primary")]  # fmt: skip
    cells = []
    for number in range(200):
        identity = {"weights": str(number)}
        files = dict.fromkeys(FILES, b"x" * 50_000)
        files |= {"spec.json": json.dumps({"identity": identity}).encode(), "metrics.json": json.dumps(rows).encode()}
        store.write(digest(identity), files, "done", started=0)
        cells.append(cell_record(str(number), cell_id=digest(identity), weights_id="w", tokens=number))
    write_cells(tmp_path, cells)
    started = time.perf_counter()
    frame = load_runs(tmp_path)
    assert time.perf_counter() - started < 1.0
    assert frame.shape[0] == 200 * 40


def test_the_estimate_of_a_study_is_its_closed_form(make_model, tmp_path):
    path = write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1))
    report = validate(path)
    size = sum(f.stat().st_size for f in make_model("olmo", seed=0).glob("*.safetensors")) / 4
    rows = [len(line) for line in (tmp_path / "sums.jsonl").read_bytes().splitlines(keepends=True)]
    trained = 2 * 4 * sum(rows) / len(rows) / 4  # two steps of four rows
    scored = (tmp_path / "text.jsonl").stat().st_size / 4
    assert report.cells == {"base": 2, "noise": 4, "sft": 4}
    assert report.training_tokens == pytest.approx(4 * trained)
    assert report.evaluation_tokens == pytest.approx(CELLS * scored)
    assert report.flops == pytest.approx(size * (6 * 4 * trained + 2 * CELLS * scored))
    assert report.trained == 4
    expected = minimum_detectable_effect(2, 3, seed_sd=1.0)["turn"].item()
    more = path.read_text().replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    path.write_text(more)
    (noise, _) = validate(path).detectable
    assert noise.turn == pytest.approx(expected)
    assert any("one pre-training run, so no interval covers another" in line for line in validate(path).sentences())


def test_one_seed_can_see_nothing_and_says_so(make_model, tmp_path):
    path = write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1))
    path.write_text(path.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    assert any("nothing is repeated" in line for line in validate(path).sentences())


def test_a_ladder_counts_its_pre_training(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: l\ncheckpoints: [{ladder: {budgets: [20_480, 40_960], init_seeds: [0, 1]}}]\ntasks: overtrain_text\n"
    )
    report = validate(path)
    assert report.pretraining_tokens == 2 * (20480 + 40960)
    assert report.flops >= 6 * 24_576 * report.pretraining_tokens
    assert report.machine == "CPU core"
