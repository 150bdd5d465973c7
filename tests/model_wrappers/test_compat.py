"""lm-eval's releases: where their differences live, and what is said of one that nobody has tried."""

from __future__ import annotations

import contextlib
import io
import logging
import tokenize
from pathlib import Path

import lm_eval.tasks
import pytest
from datasets import Dataset
from jinja2 import UndefinedError
from lm_eval.api.instance import Instance

from model_wrappers import compat
from model_wrappers.errors import DataError
from overtrain_tasks.templates import compiled

pytestmark = pytest.mark.spine

ROOT = Path(compat.__file__).parents[1]
PACKAGES = ("model_wrappers", "overtrain", "overtrain_tasks")
ALLOWED = {"model_wrappers/compat.py", "model_wrappers/compat_tasks.py"}
ASKS = ("tasks_of_0_5", "lm_eval.__version__", "version('lm_eval')", "version('lm-eval')")


def code(path: Path) -> str:
    """A module's tokens without comments, docstrings and layout, quotes alike."""
    dropped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    kept = (t.string.replace('"', "'") for t in tokens if t.type not in dropped and not t.string.startswith('"""'))
    return "".join(kept)


def test_nothing_but_compat_asks_for_the_release():
    asking = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if any(question in code(path) for question in ASKS)
    }
    assert asking == ALLOWED


@pytest.fixture
def installed(monkeypatch):
    """A function that pretends that a release is installed."""
    cached = (compat.warn_if_untried, compat.tasks_of_0_5)

    def pretend(release):
        for function in cached:
            function.cache_clear()
        monkeypatch.setattr(compat, "version", lambda _: release)

    yield pretend
    for function in cached:
        function.cache_clear()


@pytest.mark.parametrize("release", ["0.4.14", "0.5.0", "1.0"])
def test_a_newer_release_that_nobody_tried_is_named_once(installed, caplog, release):
    installed(release)
    with caplog.at_level(logging.WARNING, "model_wrappers"):
        compat.warn_if_untried()
        compat.warn_if_untried()
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"lm-eval {release} has not been tried" in said
    assert all(tried in said for tried in compat.TRIED)


def test_of_what_was_tried_nothing_is_said(installed, caplog):
    for release in compat.TRIED:
        installed(release)
        compat.warn_if_untried()
    assert not caplog.records


def test_a_model_and_a_task_say_it(installed, caplog, make_model, tmp_path):
    from model_wrappers.lm import PerturbedLM
    from overtrain_tasks.perplexity.task import TextTask

    for make in (
        lambda: PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu"),
        lambda: TextTask({"task": "t", "metadata": {"text_file": str(tmp_path / "none.txt"), "fields": ["text"]}}),
    ):
        caplog.clear()
        installed(f"{compat.TRIED[-1]}1" if compat.tasks_of_0_5() else "0.4.99")
        with contextlib.suppress(DataError):  # the text file is not there: what is said before matters
            make()
        assert "has not been tried" in caplog.text


def test_a_request_knows_its_task_and_document():
    request = compat.instance("loglikelihood", ("a", " b"), task="t", document=3, index=1)
    assert isinstance(request, Instance)
    assert (request.args, request.task_name, request.doc_id, request.idx) == (("a", " b"), "t", 3, 1)


def test_a_rolling_request_is_what_lm_evals_own_task_asks():
    """Built by lm-eval's class for whole texts, which no YAML of ours is."""
    manager = lm_eval.tasks.TaskManager(include_defaults=False)
    config = {
        "task": "whole",
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "custom_dataset": lambda **_: {"test": Dataset.from_list([{"text": "Some text."}])},
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": "byte_perplexity"}],
    }
    (task,) = manager.load([config])["tasks"].values()
    task.set_fewshot_seed(0)
    task.build_all_requests()
    (request,) = task.instances
    assert request.args == compat.rolling_request("Some text.")
    assert compat.rolling_text(request.args) == "Some text."
    assert compat.rolling_value(compat.rolling_answer(-2.5)) == -2.5


def test_templates_are_compiled_by_lm_evals_rules():
    """lm-eval's own filter, its strict undefined names, its trailing newline."""
    (template,) = compiled({"doc_to_text": "{{q|regex_replace('[0-9]', 'n')}}{{r}}\n"}).values()
    assert template({"q": "a1b2", "r": "."}) == "anbn.\n"
    with pytest.raises(UndefinedError, match="'r' is undefined"):
        template({"q": "a1b2"})
