"""Studies that generate: which cells answer, what is kept, and what names their results."""

from __future__ import annotations

import json

import pytest
from overtrain_tiny import STUDY, write_study

from model_wrappers.compat import logged_text
from model_wrappers.errors import ConfigError
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.results.store import Store
from overtrain.run.sweep import run

pytestmark = pytest.mark.spine

TASK = "overtrain_alpaca_eval"
ROWS = [{"instruction": f"Question {i}?", "output": "x", "generator": "x", "dataset": "koala"} for i in range(5)]


@pytest.fixture
def study(make_model, tmp_path, monkeypatch):
    """A function that writes a study with the instructions; changes are made to its text."""
    folder = tmp_path / "data" / "alpaca_eval"
    folder.mkdir(parents=True)
    (folder / "text_davinci_003.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    monkeypatch.setenv("OVERTRAIN_DATA", str(tmp_path / "data"))

    def write(tasks=f"[overtrain_text, {TASK}]", **evaluation):
        text = STUDY.replace("[overtrain_text]", tasks).replace("seeds: [0, 1]", "seeds: [0]")
        more = {"metadata": {"generation": {"max_gen_toks": 8}}} | evaluation
        given = "".join(f", {k}: {json.dumps(v)}" for k, v in more.items())
        assert "device: cpu}}" in text
        text = text.replace("device: cpu}}", "device: cpu" + given.replace("{", "{{").replace("}", "}}") + "}}")
        return write_study(tmp_path / "study", make_model("olmo", seed=0), make_model("olmo", seed=1), text)

    return write


def tasks_by_variant(file):
    found = {}
    for cell in expand(load_study(file)):
        found.setdefault(cell.variant, set()).add(cell.tasks)
    return found


def test_only_tuned_cells_answer(study):
    text, both = ("overtrain_text",), ("overtrain_text", TASK)
    assert tasks_by_variant(study()) == {"base": {text}, "noise": {text}, "sft": {both}}


def test_with_a_template_of_the_study_all_do(study):
    both = ("overtrain_text", TASK)
    found = tasks_by_variant(study(metadata={"template": "alpaca"}))
    assert found == {"base": {both}, "noise": {both}, "sft": {both}}


def test_cells_that_would_measure_nothing_are_refused(study):
    file = study(tasks=f"[{TASK}]")
    with pytest.raises(ConfigError, match=r"nothing to measure.*metadata: {template: alpaca}"):
        expand(load_study(file))
    assert len(expand(load_study(study(tasks=f"[{TASK}]", metadata={"template": "hh"})))) == 6


def test_another_back_end_is_another_cell_and_the_usual_one_keeps_its_name(study):
    usual = {c.key for c in expand(load_study(study()))}
    assert {c.key for c in expand(load_study(study(generate_backend="hf")))} == usual
    assert usual.isdisjoint({c.key for c in expand(load_study(study(generate_backend="vllm")))})
    with pytest.raises(ConfigError, match="generate_backend"):
        load_study(study(generate_backend="tgi"))


def test_a_sweep_keeps_the_answers_and_not_the_other_texts(study, tmp_path):
    file = study()
    assert run(file, tmp_path / "runs").complete
    store = Store(tmp_path / "runs" / "tiny")
    cells = {e["label"]: e for e in json.loads((store.root / "study.json").read_text())["cells"]}
    kept = 0
    for label, entry in cells.items():
        folder = store.folder(entry["cell_id"])
        names = {p.name for p in folder.iterdir()}
        assert "samples_overtrain_text.jsonl" not in names
        assert (f"samples_{TASK}.jsonl" in names) == (entry["variant"] == "sft"), label
        if entry["variant"] != "sft":
            continue
        kept += 1
        samples = [json.loads(line) for line in store.read(entry["cell_id"], f"samples_{TASK}.jsonl").splitlines()]
        assert [s["doc"]["instruction"] for s in samples] == [r["instruction"] for r in ROWS]
        results = json.loads(store.read(entry["cell_id"], "results.json"))
        generation = results["config"]["overtrain"]["generation"]
        assert generation["backend"] == "hf"
        assert generation["templates"][0]["name"] == "plain"  # of prompt_completion rows
        assert generation["prompts"] == len(ROWS)
        metrics = {
            (r["task"], r["metric"]): r["value"] for r in json.loads(store.read(entry["cell_id"], "metrics.json"))
        }
        assert metrics[TASK, "length"] == pytest.approx(sum(len(logged_text(s)) for s in samples) / len(samples))
        assert (TASK, "empty") in metrics
    assert kept == 2


@pytest.mark.slow
def test_two_processes_share_the_instructions(study, tmp_path):
    """Five over two: lm-eval asks one of them twice, which is not counted."""
    file = study()
    alone = answers_of(run(file, tmp_path / "one").root)
    file.write_text(file.read_text() + "resources: {processes: 2}\n")
    together = answers_of(run(file, tmp_path / "two").root)
    assert together == alone


def answers_of(root):
    """Answers and counts of the cells, by cell_id."""
    store = Store(root)
    found = {}
    for entry in json.loads((root / "study.json").read_text())["cells"]:
        if entry.get("answers"):
            samples = store.read(entry["cell_id"], f"samples_{TASK}.jsonl").splitlines()
            about = json.loads(store.read(entry["cell_id"], "results.json"))["config"]["overtrain"]["generation"]
            found[entry["cell_id"]] = [json.loads(s)["filtered_resps"] for s in samples], about["prompts"]
    assert len(found) == 2
    return found
