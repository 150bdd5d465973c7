"""MMLU as one task: its rows in all layouts of a mirror, its examples, its order."""

from __future__ import annotations

import json
import logging

import pytest

from model_wrappers.errors import DataError
from overtrain_tasks.generalist.mmlu import SUBJECTS

pytestmark = pytest.mark.spine


def load(task_manager):
    return task_manager.load(["overtrain_mmlu"])["tasks"]["overtrain_mmlu"]


def row(subject, number):
    return {
        "question": f"{subject} {number}?",
        "subject": subject,
        "choices": ["w", "x", "y", "z"],
        "answer": number % 4,
    }


def without_subject(rows):
    return [{key: value for key, value in r.items() if key != "subject"} for r in rows]


@pytest.fixture
def small(mirror):
    """A function that writes MMLU with two test and five dev rows a subject, as `all` or as folders."""

    def write(layout):
        splits = {"test": range(2), "dev": range(10, 15)}
        for split, numbers in splits.items():
            for subject in SUBJECTS if layout != "all" else ():
                mirror(f"mmlu/{subject}", split, without_subject([row(subject, n) for n in numbers]))
            rows = [row(subject, n) for subject in SUBJECTS for n in numbers]
            if layout != "folders":
                mirror("mmlu/all", split, rows if layout == "all" else without_subject(rows))

    return write


@pytest.mark.parametrize("layout", ["all", "folders", "all without subject"])
def test_every_layout_gives_the_same_requests(layout, small, task_manager, build):
    small(layout)
    task = load(task_manager)
    requests = build(task, limit=60)
    assert task.metadata["subjects"] == 57
    _, _, (context, continuation) = requests[4 * 56 + 1]
    assert context.startswith("The following are multiple choice questions (with answers) about world religions.\n\n")
    assert [line for line in context.splitlines() if line.endswith("?")] == [
        *(f"world_religions {n}?" for n in range(10, 15)),
        "world_religions 0?",
    ]
    assert continuation == " B"


def test_documents_come_from_the_subjects_in_turn(small, task_manager):
    small("all")
    docs = load(task_manager).eval_docs
    assert docs["subject"][:] == [*SUBJECTS, *SUBJECTS]
    assert docs["question"][:2] == ["abstract_algebra 0?", "anatomy 0?"]


def test_a_missing_subject_folder(small, mirror, task_manager):
    small("folders")
    (mirror.root / "mmlu" / "virology" / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"virology/test: no such split, the folder has dev; add test\.jsonl"):
        load(task_manager)


def test_missing_subjects_are_said_and_recorded(mirror, task_manager, caplog):
    mirror("mmlu/all", "test", [row("anatomy", 0), row("virology", 0)])
    mirror("mmlu/all", "dev", [row(s, n) for s in ("anatomy", "virology") for n in range(5)])
    with caplog.at_level(logging.WARNING):
        task = load(task_manager)
    assert "55 of 57 subjects have no row: abstract_algebra, astronomy" in caplog.text
    assert task.metadata["subjects"] == 2


def test_a_subject_with_too_few_examples(small, mirror, task_manager, build):
    small("all")
    path = mirror.root / "mmlu" / "all" / "dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows.remove(row("sociology", 12))
    mirror("mmlu/all", "dev", rows)
    with pytest.raises(
        DataError, match=r"subject 'sociology' in split 'dev' has 4 few-shot rows, num_fewshot=5 needs 5"
    ):
        build(load(task_manager))


def test_another_split_for_the_examples(small, mirror, task_manager, build, monkeypatch):
    small("all")
    mirror("mmlu/all", "validation", [row(subject, n) for subject in SUBJECTS for n in range(20, 26)])
    monkeypatch.setenv("OVERTRAIN_FEWSHOT_SPLIT", "mmlu=validation")
    task = load(task_manager)
    context = build(task, limit=1)[0][2][0]
    assert [f"abstract_algebra {n}?" in context for n in (10, 20, 24, 25)] == [False, True, True, False]
    assert task.dump_config()["fewshot_split"] == "validation"
    assert task.dump_config()["fewshot_config"]["split"] == "validation"


def test_the_evaluated_split_as_last_resort_leaves_the_document_out(mirror, task_manager, build):
    mirror("mmlu/all", "test", [row(subject, n) for subject in SUBJECTS for n in range(6)])
    task = load(task_manager)
    for number, _, (context, _) in build(task)[: 57 * 4 * 2 : 4]:
        own = task.eval_docs[number]["question"]
        assert context.count(own) == 1
        assert context.count(f"{task.eval_docs[number]['subject']} ") == 6
