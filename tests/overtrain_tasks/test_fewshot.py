"""Which split the examples come from, and that it is recorded."""

from __future__ import annotations

import logging

import pytest

from model_wrappers.errors import ConfigError, DataError
from overtrain_tasks import fewshot

pytestmark = pytest.mark.spine


def choose(there, *, preferred="train", evaluated="test", mirrored=True):
    return fewshot.choose(
        "overtrain_sciq",
        preferred=preferred,
        evaluated=evaluated,
        splits=lambda: there,
        mirrored=mirrored,
        known=lambda: ["overtrain_sciq", "overtrain_piqa"],
    )


@pytest.mark.parametrize(
    ("there", "preferred", "evaluated", "chosen"),
    [
        (["heldout", "test", "train", "validation"], "train", "test", "train"),
        (["dev", "test", "train"], "dev", "test", "dev"),
        (["test", "train"], "dev", "test", "train"),
        (["heldout", "test", "validation"], "train", "test", "heldout"),
        (["test", "validation"], "train", "test", "validation"),
        (["test", "validation"], "train", "validation", "validation"),
        (["heldout", "validation"], "train", "validation", "heldout"),
        (["heldout", "validation"], "train", "heldout", "validation"),
        (["test"], "train", "test", "test"),
    ],
)
def test_fallbacks(there, preferred, evaluated, chosen, caplog):
    with caplog.at_level(logging.WARNING):
        assert choose(there, preferred=preferred, evaluated=evaluated) == chosen
    assert len(caplog.records) == (0 if preferred in there else 1)


def test_the_hub_has_upstreams_split_and_is_not_asked():
    def ask():
        raise AssertionError

    assert fewshot.choose("t", preferred="train", evaluated="test", splits=ask, mirrored=False, known=list) == "train"


@pytest.mark.parametrize(
    "value", ["heldout", "sciq=heldout", "overtrain_sciq = heldout ; piqa=train", "train;sciq=heldout"]
)
@pytest.mark.parametrize("mirrored", [True, False])
def test_the_environment_chooses(value, mirrored, monkeypatch, caplog):
    monkeypatch.setenv("OVERTRAIN_FEWSHOT_SPLIT", value)
    assert choose(["heldout", "test", "train"], mirrored=mirrored) == "heldout"
    assert not caplog.records


def test_the_environment_may_mean_other_tasks(monkeypatch):
    monkeypatch.setenv("OVERTRAIN_FEWSHOT_SPLIT", "piqa=heldout")
    assert choose(["heldout", "test", "train"]) == "train"


def test_an_unknown_split(monkeypatch):
    monkeypatch.setenv("OVERTRAIN_FEWSHOT_SPLIT", "held_out")
    with pytest.raises(DataError, match=r"no split 'held_out', it has heldout, test; did you mean 'heldout'\?; choose"):
        choose(["heldout", "test"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("scq=heldout", r"no task 'scq'; did you mean 'sciq'\?; name one of piqa, sciq"),
        ("sciq=", "malformed"),
        ("=heldout", "malformed"),
        ("heldout;train", "repeats"),
        ("sciq=heldout;overtrain_sciq=train", "repeats"),
    ],
)
def test_a_malformed_environment(value, message, monkeypatch):
    monkeypatch.setenv("OVERTRAIN_FEWSHOT_SPLIT", value)
    with pytest.raises(ConfigError, match=message):
        choose(["heldout", "test"])


def test_a_fallback_is_logged_once_and_recorded(real_rows, task_manager, caplog):
    with caplog.at_level(logging.WARNING, logger="overtrain_tasks"):
        task = task_manager.load(["overtrain_sciq"])["tasks"]["overtrain_sciq"]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("overtrain_tasks")] == [
        "overtrain_sciq: no split 'train' for few-shot examples; they come from 'heldout'"
    ]
    assert task.dump_config()["metadata"]["fewshot_split"] == "heldout"


def test_the_chosen_split_gives_the_examples(mirror, arc_row, task_manager, build, monkeypatch):
    mirror("arc_easy", "test", [arc_row(0)])
    mirror("arc_easy", "train", [arc_row(n) for n in range(100, 110)])
    mirror("arc_easy", "heldout", [arc_row(n) for n in range(200, 210)])

    def context():
        task = task_manager.load(["overtrain_arc_easy"])["tasks"]["overtrain_arc_easy"]
        return build(task)[0][2][0]

    assert context().count("What is 10") == 5
    monkeypatch.setenv("OVERTRAIN_FEWSHOT_SPLIT", "arc_easy=heldout")
    assert context().count("What is 20") == 5


@pytest.mark.parametrize(
    ("task_name", "folder", "split"),
    [("overtrain_arc_easy", "arc_easy", "test"), ("overtrain_piqa", "piqa", "validation")],
)
def test_the_evaluated_document_is_never_its_own_example(
    task_name, folder, split, mirror, arc_row, task_manager, build
):
    def row(number):
        return (
            arc_row(number)
            if folder == "arc_easy"
            else {"goal": f"What is {number}?", "sol1": "a", "sol2": "b", "label": 0}
        )

    mirror(folder, split, [row(n) for n in range(10, 17)])
    task = task_manager.load([task_name])["tasks"][task_name]
    assert task.metadata["fewshot_split"] == split
    for number, _, (context, _) in build(task):
        assert context.count(f"What is {10 + number}?") == 1, "only as the question"
        assert context.count("What is ") == 6


@pytest.mark.parametrize(("rows", "shots", "enough"), [(4, 5, False), (5, 5, True), (2, 3, False), (0, 0, True)])
def test_too_few_rows_for_the_shots(rows, shots, enough, mirror, arc_row, task_manager, build):
    mirror("arc_easy", "test", [arc_row(0), arc_row(1), arc_row(2)])
    if rows:
        mirror("arc_easy", "train", [arc_row(n) for n in range(10, 10 + rows)])
    task = task_manager.load(["overtrain_arc_easy"])["tasks"]["overtrain_arc_easy"]
    task.set_config("num_fewshot", shots)
    if enough:
        assert len(build(task)) == 6
    else:
        with pytest.raises(
            DataError, match=rf"split 'train' has {rows} few-shot rows, num_fewshot={shots} needs {shots};"
        ):
            build(task)


def test_leaving_a_document_out_takes_a_spare_row(mirror, task_manager, build):
    row = {"goal": "g", "sol1": "a", "sol2": "b", "label": 0}
    mirror("piqa", "validation", [row])
    mirror("piqa", "train", [row | {"goal": f"g{n}"} for n in range(5)])
    task = task_manager.load(["overtrain_piqa"])["tasks"]["overtrain_piqa"]
    with pytest.raises(DataError, match=r"has 5 few-shot rows, num_fewshot=5 needs 5 and a spare one"):
        build(task)
