"""Bits per byte by hand, bad rows, and what is recorded."""

from __future__ import annotations

import json
import math

import pytest
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

import overtrain_tasks
from model_wrappers.compat import tasks_of_0_5
from model_wrappers.errors import DataError

pytestmark = pytest.mark.spine


def load(task_manager, name):
    return task_manager.load([name])["tasks"][name]


def test_bits_per_byte_counts_utf8_and_the_leading_space(mirror, arc_row, task_manager, build):
    row = arc_row(0) | {"choices": {"text": ["nein", "für 10 €"], "label": ["A", "B"]}}
    mirror("arc_easy", "test", [row])
    mirror("arc_easy", "train", [arc_row(n) for n in range(1, 7)])
    task = load(task_manager, "overtrain_arc_easy")
    assert build(task)[1][2][1] == " für 10 €"
    metrics = task.process_results(task.eval_docs[0], [(-1.0, False), (-7.0, False)])
    # space 1, f 1, ü 2, r 1, space 1, two digits, space 1, € 3: 12 bytes
    assert metrics == {
        "acc": 0.0,
        "acc_norm": 0.0,
        "primary": 0.0,
        "bits_per_byte": pytest.approx(7 / 12 / math.log(2)),
    }
    # 1/4 nats a character against 7/8: acc_norm stays wrong; at -1.5 nats it is right and acc is not. lm-eval 0.5 counts the
    # leading space (1/5 against 1.5/9 at last), 0.4 does not (1/4 against 1.5/8).
    metrics = task.process_results(task.eval_docs[0], [(-1.0, False), (-1.5, False)])
    assert (metrics["acc"], metrics["acc_norm"], metrics["primary"]) == (0.0, 1.0, 1.0)


def test_bits_per_byte_of_winogrande_is_of_the_shared_continuation(mirror, task_manager, build):
    row = {"sentence": "Zoë saw Max, so _ waved.", "option1": "Zoë", "option2": "Max", "answer": "2"}
    mirror("winogrande", "validation", [row])
    mirror("winogrande", "train", [row | {"sentence": f"{n}: _ ran."} for n in range(6)])
    task = load(task_manager, "overtrain_winogrande")
    requests = build(task)
    assert [strings[0].rpartition("\n\n")[2] for _, _, strings in requests] == [
        "Zoë saw Max, so Zoë",
        "Zoë saw Max, so Max",
    ]
    assert {strings[1] for _, _, strings in requests} == {" waved."}
    metrics = task.process_results(task.eval_docs[0], [(-9.0, False), (-4.0, False)])
    assert metrics == {"acc": 1.0, "primary": 1.0, "bits_per_byte": pytest.approx(4 / 7 / math.log(2))}


def test_bits_per_byte_of_copa_counts_every_space_that_is_scored(mirror, task_manager, build):
    row = {"premise": "It rained.", "choice1": "I sang.", "choice2": "I got wet.", "question": "effect", "label": 1}
    mirror("copa", "validation", [row])
    mirror("copa", "train", [row | {"premise": f"It rained {n} times."} for n in range(6)])
    task = load(task_manager, "overtrain_copa")
    scored = " i got wet." if tasks_of_0_5() else "  i got wet."  # 0.5 puts no delimiter before a space
    assert build(task)[1][2][1] == scored
    metrics = task.process_results(task.eval_docs[0], [(-1.0, False), (-6.0, False)])
    assert metrics["bits_per_byte"] == pytest.approx(6 / len(scored) / math.log(2))


def test_a_chat_template_takes_the_leading_space(mirror, arc_row, task_manager, build):
    mirror("arc_easy", "test", [arc_row(0)])
    mirror("arc_easy", "train", [arc_row(n) for n in range(1, 7)])
    task = load(task_manager, "overtrain_arc_easy")

    def template(messages, add_generation_prompt):
        return json.dumps(messages)

    requests = build(task, apply_chat_template=True, chat_template=template)
    assert requests[1][2][1] == "right 0"
    metrics = task.process_results(task.eval_docs[0], [(-1.0, False), (-3.0, False)])
    assert metrics["bits_per_byte"] == pytest.approx(3 / len(b"right 0") / math.log(2))


@pytest.mark.parametrize("label", [-1, 2])
def test_an_answer_that_is_no_choice_is_an_error(label, mirror, task_manager, build):
    row = {"goal": "open a jar", "sol1": "twist", "sol2": "smash", "label": 0}
    mirror("piqa", "validation", [row, row | {"label": label}])
    mirror("piqa", "train", [row | {"goal": f"goal {n}"} for n in range(6)])
    task = load(task_manager, "overtrain_piqa")
    with pytest.raises(DataError, match=rf"overtrain_piqa: .*answer {label} is none of the choices.*correct or remove"):
        build(task)


def test_a_row_that_does_not_fit_its_template_is_an_error(mirror, arc_row, task_manager):
    mirror("arc_easy", "test", [arc_row(0, correct="E")])
    mirror("arc_easy", "train", [arc_row(n) for n in range(1, 7)])
    with pytest.raises(DataError, match=r"overtrain_arc_easy: a row does not fit .*correct or remove it: .*What is 0"):
        load(task_manager, "overtrain_arc_easy")


def test_the_configuration_records_rows_and_templates(mirror, arc_row, task_manager):
    mirror("arc_easy", "test", [arc_row(0), arc_row(1)])
    mirror("arc_easy", "train", [arc_row(n) for n in range(2, 8)])
    config = load(task_manager, "overtrain_arc_easy").dump_config()
    assert "class" not in config
    assert config["doc_to_text"] == "Question: {{question}}\nAnswer:"
    assert [metric["metric"] for metric in config["metric_list"]] == ["acc", "acc_norm", "primary", "bits_per_byte"]
    assert config["metadata"]["data_source"] == "mirror"
    assert config["metadata"]["fewshot_split"] == "train"
    assert json.loads(json.dumps(config)) == config

    first = config["metadata"]["data_sha256"]
    mirror("arc_easy", "test", [arc_row(0) | {"note": "extra"}, arc_row(1) | {"note": "extra"}])
    assert load(task_manager, "overtrain_arc_easy").metadata["data_sha256"] == first
    mirror("arc_easy", "test", [arc_row(1), arc_row(0)])
    assert load(task_manager, "overtrain_arc_easy").metadata["data_sha256"] != first


@pytest.mark.parametrize("name", ["overtrain_winogrande", "overtrain_mmlu", "overtrain_copa"])
def test_the_configuration_is_json(name, real_rows, task_manager):
    config = load(task_manager, name).dump_config()
    assert json.loads(json.dumps(config, default=handle_non_serializable))["fewshot_config"]["doc_to_target"]


def test_predict_only_reports_no_metric(mirror, arc_row, task_manager):
    mirror("arc_easy", "test", [arc_row(0)])
    mirror("arc_easy", "train", [arc_row(n) for n in range(1, 7)])
    task = load(task_manager, "overtrain_arc_easy")
    task.override_metric("bypass")
    assert task.process_results(task.eval_docs[0], [(-1.0, False), (-3.0, False)]) == {}


def test_requests_are_never_taken_from_lm_evals_cache(mirror, arc_row, task_manager, build, caplog):
    """Its key does not name the rows."""
    mirror("arc_easy", "train", [arc_row(n) for n in range(1, 7)])
    for number in (7, 8):
        mirror("arc_easy", "test", [arc_row(number)])
        requests = build(load(task_manager, "overtrain_arc_easy"), cache_requests=True)
        assert f"What is {number}?" in requests[0][2][0]
    assert "overtrain_arc_easy: --cache_requests ignored" in caplog.text


def test_limit_takes_the_first_documents(real_rows, task_manager, build):
    task = load(task_manager, "overtrain_hellaswag")
    few, more = build(task, limit=3), build(task, limit=5)
    assert few == more[: len(few)]
    assert {number for number, _, _ in few} == {0, 1, 2}


def test_every_yaml_is_indexed():
    """lm-eval skips a YAML that it cannot read without a word."""
    root = overtrain_tasks.path()
    manager = TaskManager(include_defaults=False, include_path=str(root))
    index = manager._task_index if tasks_of_0_5() else manager.task_index
    assert {entry.yaml_path for entry in index.values()} == set(root.rglob("*.yaml"))
    for name in manager.all_tasks:
        assert name.startswith("overtrain_")
