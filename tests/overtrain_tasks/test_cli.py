"""Stock lm_eval's command line with --include_path."""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys

import lm_eval.tasks
import pytest
from lm_eval._cli.harness import HarnessCLI

import overtrain_tasks
from model_wrappers.compat import tasks_of_0_5

pytestmark = pytest.mark.spine

INCLUDE = str(overtrain_tasks.path())
CORE8 = ("arc_challenge", "arc_easy", "piqa", "winogrande", "boolq", "copa", "sciq", "hellaswag")


@pytest.fixture
def harness(monkeypatch, capsys):
    """A function that runs a command of lm_eval in this process, without indexing upstream's YAMLs."""
    ours_alone = functools.partial(lm_eval.tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", ours_alone)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
        cli = HarnessCLI()
        cli.execute(cli.parse_args())
        return capsys.readouterr().out

    return run


def test_ls(harness):
    listed = harness("ls", "tasks", "--include_path", INCLUDE)
    cells = {cell.strip() for cell in listed.split("|")}
    assert {f"overtrain_{name}" for name in (*CORE8, "openbookqa", "mmlu", "c4", "text", "core8", "ten")} <= cells


def test_validate(harness):
    tasks = "overtrain_ten,overtrain_core8,overtrain_c4,overtrain_text,overtrain_mmlu"
    assert "All tasks found and valid" in harness("validate", "--tasks", tasks, "--include_path", INCLUDE)
    if tasks_of_0_5():  # 0.5.0.dev1 finds every name valid
        return
    with pytest.raises(SystemExit):
        harness("validate", "--tasks", "overtrain_eleven", "--include_path", INCLUDE)


def lm_eval_process(tmp_path, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lm_eval", *arguments, "--include_path", INCLUDE, "--output_path", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
    )


@pytest.mark.slow
def test_dummy_on_core8(tmp_path, real_rows):
    process = lm_eval_process(tmp_path, "--model", "dummy", "--tasks", "overtrain_core8", "--limit", "5")
    assert process.returncode == 0, process.stderr
    (path,) = tmp_path.rglob("results_*.json")
    saved = json.loads(path.read_text())
    group = saved["groups"]["overtrain_core8"]
    tasks = [saved["results"][f"overtrain_{name}"] for name in CORE8]
    for metric in ("primary", "bits_per_byte"):
        assert group[f"{metric},none"] == pytest.approx(sum(t[f"{metric},none"] for t in tasks) / 8)
        errors = math.sqrt(sum(t[f"{metric}_stderr,none"] ** 2 for t in tasks)) / 8
        assert group[f"{metric}_stderr,none"] == pytest.approx(errors)
    assert {t["sample_len"] for t in tasks} == {5}
    assert saved["n-shot"]["overtrain_sciq"] == 5
    assert saved["configs"]["overtrain_sciq"]["metadata"]["fewshot_split"] == "heldout"
    assert "they come from 'heldout'" in process.stderr


def test_bad_rows_end_in_one_message(tmp_path, mirror):
    mirror("piqa", "validation", []).write_text('{"goal": "g"}\n')
    mirror("piqa", "train", []).write_text('{"goal": "g"}\n')
    process = lm_eval_process(tmp_path, "--model", "dummy", "--tasks", "overtrain_piqa")
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith(f"error: {mirror.root / 'piqa'}")
