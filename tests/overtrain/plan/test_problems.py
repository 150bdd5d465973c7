"""What ``overtrain validate`` finds before anything is spent, and that everyone counts the same cells."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from overtrain_tiny import STUDY, write_study

from model_wrappers.errors import ConfigError
from overtrain.plan.estimate import validate
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.run.status import status
from overtrain.run.sweep import run


@pytest.fixture
def write(make_model, tmp_path):
    def write(text=STUDY, folder=tmp_path, **changes):
        for old, new in changes.items():
            assert old.replace("__", ": ") in text, old
            text = text.replace(old.replace("__", ": "), new)
        return write_study(folder, make_model("olmo", seed=0), make_model("olmo", seed=1), text)

    return write


def problems(path):
    with pytest.raises(ConfigError) as caught:
        validate(path)
    _, *lines = str(caught.value).splitlines()
    return lines


def test_a_sound_study_has_none(write):
    report = validate(write())
    assert report.remarks == []
    assert report.cells == {"base": 2, "noise": 4, "sft": 4}


def test_everything_is_said_at_once_with_its_line(write, tmp_path):
    path = write(
        STUDY.replace("init_std: 0.02", "init_std: step0:nowhere").replace(
            "[overtrain_text]", "[overtrain_text, piqua]"
        )
        + "select: {{task: overtrain_texts, metric: nll_per_token}}\n"
        + "primary: {{task: overtrain_text, metric: nll_per_tokn, variant: noise, compare: [1000, 2000]}}\n"
    )
    (tmp_path / "sums.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 1}\n')
    found = problems(path)
    expected = [
        r"line 7: noise: init_std=step0:nowhere: .* is a local folder, so REVISION must be a folder",
        r"line 9: sft: .*sums.jsonl: 1 malformed row of format 'prompt_completion'.* line 2",
        r"line 16: tasks: no task 'piqua'; did you mean 'piqa'\?",
        r"line 18: select.task='overtrain_texts': .*did you mean 'overtrain_text'\?",
        r"line 19: primary.metric='nll_per_tokn': overtrain_text has no such metric; did you mean 'nll_per_token'\?",
    ]
    assert all(any(re.search(words, line) for line in found) for words in expected), "\n".join(found)
    assert len(found) == len(expected) + 1  # one message on init_std for each of the two checkpoints


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "CPU", "cuda:", "tpu"])
def test_devices_that_there_are_not(write, device):
    with pytest.raises(ConfigError, match=r"line 17: evaluation.device=.*must be cpu, cuda, cuda:N, mps"):
        validate(write(device__cpu=f"device: '{device}'"))


@pytest.mark.parametrize("init_std", ["auto", "recorded", "family:olm", "-1", "lots", "step0:x"])
def test_deviations_that_cannot_be_had(write, init_std):
    line, *_ = problems(write(STUDY.replace("init_std: 0.02", f"init_std: '{init_std}'")))
    assert "noise: init_std=" in line


def test_a_warm_up_as_long_as_the_training(write):
    (line,) = problems(write(max_steps__2="max_steps: 2, warmup_steps: 2".replace(", ", "\n        ")))
    assert "sft: warmup_steps=2: the training has 2 steps" in line
    (line,) = problems(write(max_steps__2="epochs: 1\n        warmup_steps: 9"))  # 35 rows in batches of 4
    assert "sft: warmup_steps=9: the training has 9 steps (35 rows" in line


def test_two_folders_with_the_same_weights(write, make_model, tmp_path):
    copy = shutil.copytree(make_model("olmo", seed=0), tmp_path / "copy")
    text = STUDY.replace("modifications:", f"      - {{{{path: {copy}, tokens: 3000}}}}\nmodifications:")
    (line,) = problems(write(text))
    assert "and copy are the same weights, byte by byte" in line
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[len(content) // 2 + 3] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    validate(write(text))


def test_a_folder_without_weights(write, make_model, tmp_path):
    copy = shutil.copytree(make_model("olmo", seed=0), tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    text = STUDY.replace("modifications:", f"      - {{{{path: {copy}, tokens: 3000}}}}\nmodifications:")
    (line,) = problems(write(text))
    assert "copy: " in line
    assert "no model.safetensors" in line


@pytest.mark.parametrize(
    ("task", "metric", "said"),
    [
        ("training", "validation_los", "did you mean 'validation_loss'"),
        ("training", "validation_loss", ""),
        ("overtrain_text", "bits_per_byte", ""),
        ("overtrain_text", "acc", "overtrain_text has no such metric"),
        ("overtrain_core8", "primary", "the study does not measure it"),
    ],
)
def test_what_selects_must_be_measured(write, task, metric, said):
    text = STUDY.replace("learning_rate: 1e-2", "learning_rate: [1e-3, 1e-2]")
    path = write(f"{text}select: {{{{task: {task}, metric: {metric}}}}}\n")
    assert not said or said in problems(path)[0]
    assert said or validate(path).cells["sft"] == 8


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("overtrain_core8", "primary"),
        ("overtrain_piqa", "acc_norm"),
        pytest.param("piqa", "acc", marks=pytest.mark.slow),  # lm-eval's index of all its tasks takes 10 s
    ],
)
def test_groups_their_members_and_lm_evals_tasks_are_known(write, task, metrics):
    asked = "overtrain_core8" if task.startswith("overtrain") else task
    primary = f"primary: {{{{task: {task}, metric: {metrics}, variant: noise, compare: [1000, 2000]}}}}\n"
    text = STUDY.replace("[overtrain_text]", f"[overtrain_text, {asked}]") + primary
    validate(write(text))
    assert "no such metric" in problems(write(text.replace(f"metric: {metrics}", "metric: accuracy")))[0]


def test_seeds_that_cannot_differ_are_one_cell_and_everyone_counts_alike(write, tmp_path):
    """36 rows, 35 to train on: with a batch of 35 every seed is the same training."""
    path = write(train_batch_size__4="train_batch_size: 35")
    report = validate(path)
    assert report.cells == {"base": 2, "noise": 4, "sft": 2}
    (remark,) = report.remarks
    assert "variant sft: seeds cannot differ: all training rows of" in remark
    assert "the error over documents carries the comparison" in remark
    assert {d.variant: d.seeds for d in report.detectable} == {"noise": 2, "sft": 1}
    cells = len(expand(load_study(path)))
    assert sum(v.total for v in status(path, tmp_path / "runs").variants) == cells == 8
    summary = run(path, tmp_path / "runs")
    assert (summary.cells, summary.done, summary.ran) == (8, 8, 8)
    assert sum(v.total for v in status(path, tmp_path / "runs").variants) == cells
    wider = path.read_text().replace("seeds: [0, 1]", "seeds: [1, 2]")  # another first seed is the same training
    path.write_text(wider)
    again = run(path, tmp_path / "runs", only=["sft"])
    assert (again.cells, again.done, again.ran) == (2, 2, 0)


def test_what_is_random_although_rows_fit_one_batch(write, make_model, tmp_path):
    path = write(
        STUDY.replace("finetune", "lora").replace("train_batch_size: 4", "train_batch_size: 35\n        lora_rank: 2")
    )
    assert validate(path).cells["sft"] == 4
    copy = shutil.copytree(make_model("olmo", seed=0), tmp_path / "dropped")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    path = write_study(tmp_path, copy, make_model("olmo", seed=1), STUDY.replace("size: 4", "size: 35"))
    assert validate(path).cells["sft"] == 2 + 1  # the other checkpoint drops nothing


def test_a_million_cells_are_refused_and_many_are_planned_in_seconds(write):
    import time

    many = ", ".join(str(n / 1000) for n in range(1, 5001))
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"line 7: the study has 1,000,\d+ cells .*at most 100,000, shorten a list"):
        validate(write(STUDY.replace("gamma: [0.1]", f"gamma: [{many}]").replace("[0, 1]", str(list(range(100))))))
    assert len(expand(load_study(write(STUDY.replace("[0, 1]", str(list(range(5000)))))))) == 2 + 2 * 2 * 5000
    assert time.monotonic() - start < 60
