"""A study with a reference of its own seed, run: each cell measures what it can, and the plan is recalled."""

from __future__ import annotations

import json

import pytest
from judged_folder import TASK, write_judged
from overtrain_tiny import CELLS, STUDY, write_study

from overtrain.results.frame import load_documents, load_runs, load_study
from overtrain.results.groups import groups
from overtrain.run.sweep import run


@pytest.fixture(scope="module")
def study(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    (folder / "data" / "alpaca_eval").mkdir(parents=True)
    rows = [{"instruction": f"Say {n}.", "dataset": "made"} for n in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data" / "alpaca_eval" / "text_davinci_003.jsonl").write_text(lines)
    text = STUDY.replace("[overtrain_text]", "[overtrain_text, overtrain_alpaca_eval]\nreference: {{seed: 7}}")
    text = text.replace("device: cpu", "device: cpu, metadata: {{generation: {{max_gen_toks: 4}}}}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERTRAIN_CACHE", str(folder / "cache"))
        patch.setenv("OVERTRAIN_DATA", str(folder / "data"))
        path = write_study(folder, make_model("olmo", seed=0), make_model("olmo", seed=1), text)
        return path, run(path, folder / "runs"), folder / "runs"


def test_untuned_cells_answer_nothing_and_the_reference_only_answers(study):
    _, summary, runs = study
    assert (summary.cells, summary.done) == (CELLS + 1, CELLS + 1)
    frame = load_runs(runs / "tiny")
    tasks = frame.groupby(["variant", "reference_only"])["task"].unique().map(set).to_dict()
    assert tasks == {
        ("base", False): {"overtrain_text"},
        ("noise", False): {"overtrain_text", "training"},
        ("sft", False): {"overtrain_text", "training", TASK},
        ("sft", True): {"training", TASK},
    }
    (group,) = groups(load_study(runs / "tiny"))
    assert (group.reference.seed, group.reference.tokens, len(group.cells)) == (7, 2000, 4)


def test_the_plan_of_every_set_of_tasks_is_recalled(study, monkeypatch):
    path, _, runs = study
    monkeypatch.setenv("OVERTRAIN_CACHE", str(path.parent / "cache"))
    monkeypatch.setenv("OVERTRAIN_DATA", str(path.parent / "data"))
    monkeypatch.setattr("overtrain.plan.planner.built_tasks", lambda *_: pytest.fail("requests were built again"))
    again = run(path, runs)
    assert (again.ran, again.done) == (0, CELLS + 1)
    kept = json.loads((runs / "tiny" / ".work" / "plan.json").read_text())["requests"]
    assert sorted(len(tasks) for tasks in kept.values()) == [1, 1, 2]


def test_what_a_cell_measures_itself_is_there_once_with_its_win_rate(study):
    _, _, runs = study
    write_judged(runs / "tiny", lambda _, rng: rng.uniform(20, 80, 3), reference=lambda e: e.get("reference_only"))
    frame = load_runs(runs / "tiny")
    assert not frame.duplicated(["cell_id", "task", "metric"]).any()
    mine = frame[(frame["task"] == TASK) & ~frame["reference"]]
    assert set(mine["metric"]) == {"length", "empty", "win_rate", "position_bias", "length_difference", "missing"}
    documents = load_documents(runs / "tiny", tasks=[TASK])
    assert set(documents["metric"]) == {"length", "empty", "win_rate", "length_difference"}
    lengths = documents[documents["metric"] == "length"].groupby("cell_id", observed=True)["value"].mean()
    values = frame[frame["metric"] == "length"].set_index("cell_id")["value"]
    assert lengths.to_dict() == pytest.approx(values.to_dict())
