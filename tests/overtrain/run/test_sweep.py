"""The sweep in this process: what it stores, what it reuses, what it refuses, and how it fails."""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil
import signal
from pathlib import Path

import pytest
from overtrain_tiny import CELLS, write_study

from model_wrappers.cache import WeightsCache
from model_wrappers.errors import CheckpointError, ConfigError, StoreError
from overtrain.plan.load import load_study
from overtrain.results.frame import load_documents, load_runs
from overtrain.results.store import Store
from overtrain.results.study_file import read_study
from overtrain.run import cell as work
from overtrain.run import evaluate
from overtrain.run.status import status, status_table
from overtrain.run.sweep import run

pytestmark = pytest.mark.spine


@pytest.fixture
def models(make_model, tmp_path):
    """Copies, because some tests change them."""
    return [Path(shutil.copytree(make_model("olmo", seed=seed), tmp_path / f"model-{seed}")) for seed in (0, 1)]


@pytest.fixture
def study(models, tmp_path):
    return write_study(tmp_path, *models)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def finished(make_model, tmp_path_factory):
    """The study, run once and left alone: (YAML file, folder of all studies)."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERTRAIN_CACHE", str(folder / "cache"))
        path = write_study(folder, make_model("olmo", seed=0), make_model("olmo", seed=1))
        summary = run(path, folder / "runs")
    assert (summary.cells, summary.done, summary.ran, summary.failed) == (CELLS, CELLS, CELLS, [])
    return path, folder / "runs"


def ids(runs, *, only=lambda cell: True):
    return {cell.cell_id for cell in read_study(runs / "tiny").cells if only(cell)}


def times(runs):
    root = runs / "tiny"
    return {p.name: (p / "status.json").stat().st_mtime_ns for p in root.iterdir() if len(p.name) == 64}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def break_on(monkeypatch, when, error):
    """Make the cell whose label contains ``when`` raise."""
    real = evaluate.Session.evaluate

    def evaluate_or_raise(self, job):
        if when in job.cell.label:
            raise error
        return real(self, job)

    monkeypatch.setattr(evaluate.Session, "evaluate", evaluate_or_raise)


def test_cells_equal_what_lm_eval_says_of_the_same_models(finished, make_model):
    """By lm-eval's simple_evaluate and our stock model, one cell at a time: same values to the bit, same cell_id."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    import overtrain_tasks

    path, runs = finished
    manager = TaskManager(
        include_defaults=False,
        include_path=str(overtrain_tasks.path()),
        metadata={"text_file": str(path.parent / "text.jsonl")},
    )
    frame = load_runs(runs / "tiny")
    for gamma, seed in ((0.0, 0), (0.1, 1)):
        results = simple_evaluate(
            model="overtrain_perturb",
            model_args={
                "pretrained": str(make_model("olmo", seed=1)),
                "gamma": gamma,
                "seed": seed,
                "init_std": "0.02",
            },
            tasks=["overtrain_text"],
            task_manager=manager,
            batch_size=2,
            device="cpu",
            bootstrap_iters=10,
        )
        variant = frame[(frame["tokens"] == 2000) & (frame["variant"] == ("noise" if gamma else "base"))]
        rows = variant[(variant["seed"] == seed) if gamma else variant["seed"].isna()].set_index(["task", "metric"])
        assert set(rows["cell_id"]) == {results["config"]["overtrain"]["cell_id"]}
        for metric in ("nll_per_token", "bits_per_byte", "token_perplexity"):
            assert (
                rows.loc[("overtrain_text", metric), "value"] == results["results"]["overtrain_text"][f"{metric},none"]
            )
            stderr = results["results"]["overtrain_text"][f"{metric}_stderr,none"]
            assert rows.loc[("overtrain_text", metric), "stderr"] == stderr


def test_the_files_of_a_cell(finished):
    _, runs = finished
    store = Store(runs / "tiny")
    (cell, *_) = ids(runs, only=lambda cell: cell.variant == "sft" and cell.seed == 1)
    results = json.loads(store.read(cell, "results.json"))
    assert {
        "results",
        "configs",
        "versions",
        "n-shot",
        "config",
        "date",
        "pretty_env_info",
        "git_hash",
    } <= results.keys()
    assert "samples" not in results
    assert results["config"]["overtrain"]["cell_id"] == cell
    (step,) = json.loads(store.read(cell, "training_log.json"))
    assert [entry["step"] for entry in step["record"]["training_log"] if "loss" in entry] == [1, 2]
    assert step["described"]["learning_rate"] == 0.01
    assert json.loads(store.read(cell, "environment.json"))["lm_eval_version"]
    assert b"2/2" in store.read(cell, "log.txt")  # the training's progress bar, its last state


def test_a_finished_study_is_recognised_without_lm_eval_or_torch(finished):
    from commands import run as command

    path, runs = finished
    before = times(runs)
    code = (
        "import sys; from overtrain.run.sweep import run; s = run(sys.argv[1], sys.argv[2]); print(s.ran, s.done);"
        "print([m for m in ('torch', 'transformers', 'lm_eval') if m in sys.modules])"
    )
    import sys

    done = command(sys.executable, "-c", code, path, runs)
    assert done.stdout.splitlines() == [f"0 {CELLS}", "[]"], done.stderr
    assert times(runs) == before


def test_a_lost_plan_is_worked_out_again_and_names_the_same_cells(finished):
    path, runs = finished
    before = ids(runs)
    (runs / "tiny" / ".work" / "plan.json").write_text("{")
    assert run(path, runs).ran == 0
    assert ids(runs) == before


def test_a_changed_study_adds_cells_and_keeps_the_rest(study, runs):
    edit(study, "sft:\n    - finetune", "other:\n    - gaussian: {gamma: 0, init_std: 0.02}\n  sft:\n    - finetune")
    run(study, runs, only=["base", "noise"])
    before = times(runs)
    assert len(before) == 6  # gamma = 0 is the base
    edit(study, "gamma: [0.1]", "gamma: [0.2, 0.1]")
    summary = run(study, runs, only=["noise"])
    assert (summary.ran, summary.done, summary.cells) == (4, 8, 8)
    assert before.items() <= times(runs).items()
    frame = load_runs(runs / "tiny")
    assert set(frame.loc[frame["variant"] == "sft", "status"]) == {"missing"}
    assert set(frame.loc[frame["variant"] != "sft", "status"]) == {"done"}


def test_results_of_other_weights_are_refused_and_evaluated_again(study, runs, models, make_model):
    run(study, runs, only=["base"])
    old = ids(runs, only=lambda cell: cell.variant == "base" and cell.tokens == 2000)
    shutil.copy(make_model("olmo", seed=2) / "model.safetensors", models[1])
    summary = run(study, runs, only=["base"])
    (refused,) = summary.refused
    assert refused.startswith(
        "1 finished cell of model-1, base: weights, configuration or training data changed since;"
    )
    assert (summary.ran, summary.done) == (1, 2)
    assert not old & ids(runs)
    assert old < times(runs).keys()


def test_results_on_other_rows_are_refused(study, runs, tmp_path):
    run(study, runs, only=["base"])
    (tmp_path / "text.jsonl").write_text('{"text": "Something else."}\n')
    summary = run(study, runs, only=["base"])
    assert summary.refused == [
        "1 finished cell of model-0, base: evaluation rows or tasks changed since; not reused",
        "1 finished cell of model-1, base: evaluation rows or tasks changed since; not reused",
    ]
    assert summary.ran == 2


def test_a_cell_that_fails_is_stored_and_the_others_run(study, runs, monkeypatch):
    with monkeypatch.context() as patch:
        break_on(patch, "model-0 noise seed=1", RuntimeError("boom"))
        summary = run(study, runs, only=["base", "noise"])
    assert (summary.done, summary.cells) == (5, 6)
    assert summary.failed == ["model-0 noise seed=1: RuntimeError: boom"]
    assert not summary.complete
    found = status(study, runs)
    assert (found.count("done"), found.count("failed"), found.count("missing")) == (5, 1, 4)
    assert found.remaining > 0
    assert "boom" in status_table(found).caption
    frame = load_runs(runs / "tiny")
    failed = frame[frame["status"] == "failed"]
    assert set(failed["metric"]) == set(frame.loc[frame["status"] == "done", "metric"])
    assert failed["value"].isna().all()
    assert run(study, runs, only=["base", "noise"]).ran == 0
    assert run(study, runs, only=["base", "noise"], retry_failed=True).ran == 1
    assert status(study, runs).count("failed") == 0


def test_what_cannot_be_planned_is_named_and_the_others_run(study, runs):
    edit(study, "data: sums.jsonl", "data: no_such.jsonl")
    summary = run(study, runs)
    (problem,) = summary.problems
    assert "no_such.jsonl" in problem
    assert summary.problems[problem] == 4
    assert (summary.done, summary.cells) == (6, CELLS)
    assert status(study, runs).problems == summary.problems


def test_ctrl_c_stores_the_cell_as_cancelled_and_a_rerun_goes_on(study, runs, monkeypatch):
    with monkeypatch.context() as patch:
        break_on(patch, "model-0 noise seed=1", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(study, runs, only=["base", "noise"])
    states = [Store(runs / "tiny").state(c).status for c in times(runs)]
    assert sorted(states) == ["cancelled", "done", "done"]
    summary = run(study, runs, only=["base", "noise"])
    assert (summary.ran, summary.complete) == (4, True)


def test_a_full_disk_stops_the_sweep_and_keeps_what_is_done(study, runs, monkeypatch):
    """A limit on file sizes makes the system refuse the write half-way, as a full disk does."""
    real, calls = work.measure, []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def files(job):
        found = real(job)
        calls.append(job)
        if len(calls) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, hard))
        return found

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(work, "measure", files)
            with pytest.raises(StoreError, match="what is finished is kept"):
                run(study, runs, only=["base", "noise"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert len(times(runs)) == 2
    summary = run(study, runs, only=["base", "noise"])
    assert (summary.ran, summary.complete) == (4, True)


def test_a_dry_run_says_what_would_run_and_writes_nothing(study, runs):
    summary = run(study, runs, dry_run=True)
    assert len(summary.missing) == CELLS
    assert not runs.exists()
    assert summary.sentences()[-1] == f"tiny: {CELLS} of {CELLS} cells to evaluate, 0 done"
    run(study, runs, only=["model-0 base"])
    summary = run(study, runs, dry_run=True)
    assert (summary.done, len(summary.missing)) == (1, CELLS - 1)


def test_two_checkpoints_of_the_same_weights_are_refused(study, runs, models):
    shutil.copy(models[0] / "model.safetensors", models[1])
    with pytest.raises(CheckpointError, match="model-0 and model-1 are the same weights"):
        run(study, runs)


def test_a_task_that_does_not_exist_is_a_clear_error(study, runs):
    edit(study, "tasks: [overtrain_text]", "tasks: [overtrain_text, piqaa]")
    with pytest.raises(ConfigError, match="no task 'piqaa'; did you mean 'piqa'"):
        run(study, runs)


@pytest.mark.parametrize(("keep", "left"), [("none", 0), ("best", 2), ("all", 4)])
def test_tuned_weights_are_kept_as_the_study_says(study, runs, keep, left):
    edit(study, "seeds: [0, 1]", f"seeds: [0, 1]\nkeep_weights: {keep}")
    edit(study, "max_steps: 2", "max_steps: 2\n        validation_fraction: 0.2")
    run(study, runs, only=["sft"])
    entries = {e.weights_id for e in WeightsCache().entries()}
    assert len(entries) == left
    if keep == "best":
        frame = load_runs(runs / "tiny")
        losses = frame[
            (frame["task"] == "training") & (frame["metric"] == "validation_loss") & (frame["status"] == "done")
        ]
        best = losses.loc[losses.groupby("tokens")["value"].idxmin()]
        assert entries == set(best["weights_id"])


def test_weights_that_were_there_before_are_not_removed(study, runs):
    run(load_study(study), runs, only=["model-0 sft"])
    assert WeightsCache().entries() == []
    everything = dataclasses.replace(load_study(study), keep_weights="all", name="other")
    run(everything, runs, only=["model-0 sft"])
    assert len(WeightsCache().entries()) == 2
    shutil.rmtree(runs / "tiny")
    run(load_study(study), runs, only=["model-0 sft"])
    assert len(WeightsCache().entries()) == 2


def test_a_second_step_shares_the_first_ones_weights(study, runs, monkeypatch):
    """Fine-tuning is trained once for all noise on top of it, and its weights go when the last of them is done."""
    from overtrain.run.weights import note_if_new

    noted = []
    monkeypatch.setattr(work, "note_if_new", lambda job: (noted.append(job.tuned_id), note_if_new(job)))
    edit(
        study,
        "        train_max_length: 64",
        "        train_max_length: 64\n        seed: 3\n    - gaussian: {gamma: [0.1, 0.2], init_std: 0.02}",
    )
    summary = run(study, runs, only=["model-0 sft"])
    assert (summary.ran, summary.done) == (4, 4)
    assert len(set(noted)) == 1
    assert WeightsCache().entries() == []
    rows = load_runs(runs / "tiny").query("variant == 'sft' and status == 'done' and task == 'training'")
    assert set(rows["metric"]) >= {"train_loss", "distance", "distance_2"}
    assert set(rows["modification"]) == {"finetune+gaussian"}


def test_samples_are_kept_only_if_asked_for(study, runs):
    run(study, runs, only=["model-0 base"])
    store = Store(runs / "tiny")
    (cell,) = times(runs)
    assert not list(store.folder(cell).glob("samples_*"))
    shutil.rmtree(runs)
    edit(study, "device: cpu", "device: cpu, samples: true")
    run(study, runs, only=["model-0 base"])
    lines = store.read(cell, "samples_overtrain_text.jsonl").splitlines()
    assert [json.loads(line)["doc_id"] for line in lines] == [0, 1, 2, 3]


def test_few_shot_and_limit_reach_the_tasks(study, runs, real_data, monkeypatch):
    monkeypatch.setenv("OVERTRAIN_DATA", str(real_data))
    edit(study, "tasks: [overtrain_text]", "tasks: [overtrain_core8, overtrain_text]")
    edit(study, "device: cpu", "device: cpu, limit: 2, num_fewshot: 1")
    assert run(study, runs, only=["model-0 base"]).done == 1
    rows = load_runs(runs / "tiny").query("status == 'done'").set_index(["task", "metric"])
    assert rows.loc[("overtrain_sciq", "acc"), "n_documents"] == 2
    assert rows.loc[("overtrain_sciq", "acc"), "higher_is_better"]
    leaves = [t for t, m in rows.index if m == "primary" and t != "overtrain_core8"]
    assert len(leaves) == 8
    mean = sum(rows.loc[(t, "primary"), "value"] for t in leaves) / 8
    assert rows.loc[("overtrain_core8", "primary"), "value"] == pytest.approx(mean)
    results = json.loads(Store(runs / "tiny").read(rows["cell_id"].iloc[0], "results.json"))
    assert results["n-shot"]["overtrain_sciq"] == 1
    assert results["n-shot"]["overtrain_text"] == 0
    documents = load_documents(runs / "tiny", tasks=["overtrain_sciq"])
    for metric, part in documents.groupby("metric", observed=True):
        assert part["value"].mean() == pytest.approx(rows.loc[("overtrain_sciq", metric), "value"])


def test_a_generation_task_runs_twice_to_the_same_cell(study, runs, tmp_path):
    """Generation pads its batches through the tokenizer, which must not change what the weights are called."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "say.yaml").write_text(
        "task: say\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'text.jsonl'}}}}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: text\ndoc_to_target: text\n"
        "generation_kwargs: {max_gen_toks: 3, until: ['.']}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\nmetadata: {version: 1}\n"
    )
    edit(study, "tasks: [overtrain_text]", "tasks: [say]")
    edit(study, "text_file: text.jsonl", "include_path: tasks")
    summary = run(study, runs, only=["model-0 sft"])
    assert (summary.done, summary.failed) == (2, [])


def test_divergence_is_an_outcome_recorded_shown_never_scored_and_never_selected(models, tmp_path, runs):
    weights = models[1] / "model.safetensors"
    study = write_study(tmp_path, *models)
    edit(study, "learning_rate: 1e-2", "learning_rate: [1e-3, 1e30]")
    edit(study, "gamma: [0.1]", "gamma: [0.1, 1e300]")
    before = weights.read_bytes()
    summary = run(study, runs)
    assert weights.read_bytes() == before
    assert (summary.failed, summary.missing, summary.complete) == ([], [], True)
    assert summary.done + len(summary.diverged) == summary.cells
    assert all("1e+30" in text or "1e+300" in text for text in summary.diverged)
    assert any("training diverged at step" in text for text in summary.diverged)
    assert any("numbers in" in text for text in summary.diverged)
    assert f"{len(summary.diverged)} diverged" in summary.sentences()[-1]
    found = status(study, runs)
    assert found.count("diverged") == len(summary.diverged)
    frame = load_runs(runs / "tiny")
    diverged = frame[frame["status"] == "diverged"]
    assert len(diverged["cell_id"].unique()) == len(summary.diverged)
    lower = diverged[diverged["higher_is_better"].eq(False)]
    assert len(lower)
    assert (lower["value"] == float("inf")).all()
    assert diverged[diverged["higher_is_better"].isna()]["value"].isna().all()
    tuned = frame[(frame["metric"] == "validation_loss") & (frame["category"] == "finetune")]
    assert (tuned.loc[tuned.groupby("checkpoint")["value"].idxmin(), "learning_rate"] == 1e-3).all()
    again = run(study, runs)
    assert (again.ran, again.complete) == (0, True)
