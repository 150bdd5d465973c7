"""Fixtures of the task tests: the real rows, one task manager, an LM whose log-likelihoods are hashes."""

from __future__ import annotations

import hashlib
import json

import pytest
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

import overtrain_tasks
from model_wrappers.compat import rolling_answer, rolling_text


class HashLM(LM):
    """Log-likelihoods that depend on the request's strings and on nothing else."""

    def _value(self, *strings):
        digest = hashlib.sha256("\0".join(strings).encode()).digest()
        return -20 * int.from_bytes(digest[:8]) / 2**64 - 0.1

    def loglikelihood(self, requests, disable_tqdm=False):
        return [(self._value(*request.args), False) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        return [rolling_answer(self._value(rolling_text(request.args))) for request in requests]

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("OVERTRAIN_DATA", "OVERTRAIN_FEWSHOT_SPLIT", "OVERTRAIN_TEXT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def hash_lm():
    return HashLM()


@pytest.fixture(scope="session")
def task_manager():
    return TaskManager(include_defaults=False, include_path=str(overtrain_tasks.path()))


@pytest.fixture
def real_rows(real_data, monkeypatch):
    """The folder of real rows, with OVERTRAIN_DATA set to it."""
    monkeypatch.setenv("OVERTRAIN_DATA", str(real_data))
    return real_data


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that writes rows into a mirror, which OVERTRAIN_DATA names."""
    root = tmp_path / "mirror"
    root.mkdir()
    monkeypatch.setenv("OVERTRAIN_DATA", str(root))

    def write(name, split, rows):
        path = root / name / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    write.root = root
    return write


def _arc_row(number, correct="B"):
    return {
        "id": f"q{number}",
        "question": f"What is {number}?",
        "choices": {"text": [f"wrong {number}", f"right {number}"], "label": ["A", "B"]},
        "answerKey": correct,
    }


@pytest.fixture
def arc_row():
    """A function that makes one ARC row."""
    return _arc_row


@pytest.fixture
def build():
    """A function that builds a task's requests and returns them as (document, choice, strings)."""

    def requests(task, seed=1234, **kwargs):
        task.set_fewshot_seed(seed)
        task.build_all_requests(**kwargs)
        return [(instance.doc_id, instance.idx, instance.args) for instance in task.instances]

    return requests
