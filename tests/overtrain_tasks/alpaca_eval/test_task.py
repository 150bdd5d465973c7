"""The task: 805 instructions as they are, requests that say their template, answers kept and measured."""

from __future__ import annotations

import json

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import overtrain_tasks
from model_wrappers.compat import logged_text
from model_wrappers.errors import ConfigError, DataError
from model_wrappers.generation.prompts import TEMPLATE_KEY, Instruction
from model_wrappers.lm import FineTunedLM
from model_wrappers.training.templates import render_prompt
from overtrain_tasks import data

pytestmark = pytest.mark.spine

NAME = "overtrain_alpaca_eval"
ROWS = [
    {"instruction": "  Say hello.\n", "output": "Not to be read.", "generator": "x", "dataset": "helpful_base"},
    {"instruction": "What is {{ 2 + 2 }}?", "output": "4", "generator": "x", "dataset": "koala"},
    {"instruction": "Why?", "output": "Because.", "generator": "x", "dataset": "koala"},
]


@pytest.fixture
def rows(mirror):
    mirror("alpaca_eval", "text_davinci_003", ROWS)


def load(**metadata):
    manager = TaskManager(include_defaults=False, include_path=str(overtrain_tasks.path()), metadata=metadata or None)
    return manager.load([NAME])["tasks"][NAME]


def built(task, **kwargs):
    task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(1234)
    task.build_all_requests(**kwargs)
    return [instance.args for instance in task.instances]


def test_all_805_instructions_as_they_are(real_rows):
    text = (real_rows / "alpaca_eval" / "text_davinci_003.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert len(rows) == 805
    task = load()
    assert [str(prompt) for prompt, _ in built(task)] == [row["instruction"] for row in rows]
    assert set(task.dataset["text_davinci_003"].column_names) == {"instruction", "dataset"}


def test_the_request_says_that_the_tuning_decides_the_template(rows):
    requests = built(load())
    assert [p for p, _ in requests] == [row["instruction"] for row in ROWS]
    assert all(isinstance(p, Instruction) for p, _ in requests)
    assert requests[0][1] == {"until": [], "temperature": 0.0, "max_gen_toks": 1024, TEMPLATE_KEY: "tuning"}


@pytest.mark.parametrize("template", ["tulu", "alpaca", "hh", "qa", "plain"])
def test_a_template_of_the_metadata_is_written_by_the_task(rows, template):
    task = load(template=template)
    for (prompt, arguments), row in zip(built(task), ROWS, strict=True):
        assert prompt == render_prompt(row["instruction"], template)
        assert TEMPLATE_KEY not in arguments
    assert task.metadata["template_text"]["name"] == template
    assert json.loads(json.dumps(task.dump_config()["metadata"]))["template"] == template


def test_its_answers_end_at_the_next_turn(rows):
    assert built(load(template="hh"))[0][1]["until"] == ["\n\nHuman:"]
    assert built(load(template="plain"))[0][1]["until"] == []


def test_the_chat_template_is_the_models_to_write(rows):
    assert built(load(template="chat"))[0][1][TEMPLATE_KEY] == "chat"
    applied = built(load(), apply_chat_template=True, chat_template=lambda turns, **_: f"<{turns[-1]['content']}>")
    assert applied[2] == ("<Why?>", {"until": [], "temperature": 0.0, "max_gen_toks": 1024})


def test_generation_arguments_of_the_metadata_and_of_the_command_line(rows):
    task = load(generation={"max_gen_toks": 7, "temperature": 0.5})
    assert built(task)[0][1]["max_gen_toks"] == 7
    task.set_config(key="generation_kwargs", value={"temperature": 0.9}, update=True)
    assert built(task)[0][1] == {"until": [], "temperature": 0.9, "max_gen_toks": 7, TEMPLATE_KEY: "tuning"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"template": "tullu"}, "did you mean 'tulu'"),
        ({"template": "auto"}, "leave it out"),
        ({"template": 3}, "leave it out"),
        ({"generation": "greedy"}, "must be a mapping"),
    ],
)
def test_metadata_that_cannot_be(rows, metadata, message):
    with pytest.raises(ConfigError, match=message):
        load(**metadata)


def test_length_and_emptiness(rows):
    task = load()
    assert task.process_results({}, ["four"]) == {"length": 4.0, "empty": 0.0}
    assert task.process_results({}, [""]) == {"length": 0.0, "empty": 1.0}
    assert {name: f([1, 3]) for name, f in task.aggregation().items()} == {"length": 2, "empty": 2}
    assert task.higher_is_better() == {"length": None, "empty": False}


def test_answers_are_stripped_and_logged_in_full(rows, make_model, tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"instruction": "a", "output": "b"}) + "\n")
    lm = FineTunedLM(
        pretrained=str(make_model("olmo")),
        data=str(tmp_path / "rows.jsonl"),
        learning_rate=1e-2,
        max_steps=1,
        train_batch_size=1,
        device="cpu",
    )
    asked = []
    texts = iter([" Hello\n\n there. \n", " \n", "Because."])

    def answered(self, requests, disable_tqdm=False):
        asked.extend(r.args[0] for r in requests)
        return [next(texts) for _ in requests]

    monkeypatch.setattr(HFLM, "generate_until", answered)
    manager = TaskManager(include_defaults=False, include_path=str(overtrain_tasks.path()))
    found = lm_eval.simple_evaluate(lm, tasks=[NAME], task_manager=manager, log_samples=True)
    assert asked == [render_prompt(row["instruction"], "alpaca") for row in ROWS]
    samples = found["samples"][NAME]
    assert [logged_text(s) for s in samples] == ["Hello\n\n there.", "", "Because."]
    assert [s["doc"]["instruction"] for s in samples] == [row["instruction"] for row in ROWS]
    assert found["results"][NAME]["length,none"] == pytest.approx((14 + 0 + 8) / 3)
    assert found["results"][NAME]["empty,none"] == pytest.approx(1 / 3)
    generation = found["config"]["overtrain"]["generation"]
    assert generation["templates"][0]["name"] == "alpaca"
    assert generation["prompts"] == 3


def test_lm_evals_own_model_refuses_rather_than_answer_without_a_template(rows, make_model):
    lm = HFLM(pretrained=str(make_model("olmo")), device="cpu", max_length=2048)

    def evaluate(**metadata):
        manager = TaskManager(
            include_defaults=False,
            include_path=str(overtrain_tasks.path()),
            metadata={"generation": {"max_gen_toks": 4}} | metadata,
        )
        return lm_eval.simple_evaluate(lm, tasks=[NAME], task_manager=manager, log_samples=True)

    with pytest.raises(ValueError, match=TEMPLATE_KEY):
        evaluate()
    assert evaluate(template="tulu")["n-samples"][NAME]["effective"] == 3


def test_the_hubs_file_is_read_and_its_script_is_not_run(tmp_path, monkeypatch):
    asked = []

    def download(repo, name, repo_type):
        asked.append((repo, name, repo_type))
        return str(tmp_path / name)

    (tmp_path / "alpaca_eval.json").write_text(json.dumps(ROWS))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    on_hub = load()
    assert asked == [("tatsu-lab/alpaca_eval", "alpaca_eval.json", "dataset")]
    assert [p for p, _ in built(on_hub)] == [row["instruction"] for row in ROWS]
    assert on_hub.metadata["data_source"] == "hub"
    mirror = tmp_path / "mirror" / "alpaca_eval"
    mirror.mkdir(parents=True)
    (mirror / "text_davinci_003.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.setenv(data.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    assert load().metadata["data_sha256"] == on_hub.metadata["data_sha256"]


@pytest.mark.parametrize(
    "content", ["[]", "{}", "no JSON", '[{"instruction": "x"}]', '[{"instruction": 1, "dataset": "x"}]']
)
def test_a_hub_file_that_is_not_what_it_was(tmp_path, monkeypatch, content):
    (tmp_path / "alpaca_eval.json").write_text(content)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, name, repo_type: str(tmp_path / name))
    with pytest.raises(DataError, match=r"alpaca_eval\.json.*OVERTRAIN_DATA"):
        load()


def test_a_hub_that_does_not_answer(monkeypatch):
    def fail(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(DataError, match=r"offline.*OVERTRAIN_DATA"):
        load()
