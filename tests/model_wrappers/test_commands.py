"""Stock lm_eval's command lines with our models, as subprocesses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from commands import BIN, INCLUDE, assert_one_message, model_args, results, run

from model_wrappers.compat import logged_text

pytestmark = pytest.mark.spine

TEXTS = ["A man walks into a bar and orders a glass of water.", "Naïve questions: what is 2 + 2?", "Third text."] * 2


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "held_out.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    return path


@pytest.fixture(scope="session")
def sums(tmp_path_factory):
    path = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    rows = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(8) for b in range(8)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def evaluate(text_file, tmp_path):
    def evaluate(model, *more, command=("lm_eval",), **args):
        return run(
            *command, "--model", model, "--model_args", model_args(**args), "--tasks", "overtrain_text",
            "--include_path", INCLUDE, "--output_path", tmp_path / "out", *more, OVERTRAIN_TEXT=str(text_file),
        )  # fmt: skip

    return evaluate


def test_fine_tune_by_the_console_script_with_every_usual_option(evaluate, make_model, sums, tmp_path):
    done = evaluate(
        "overtrain_ft", "--log_samples", "--seed", "1,2,3,4", "--limit", "4", "--batch_size", "auto",
        pretrained=make_model("olmo"), data=sums, learning_rate="1e-3", max_steps=2, train_batch_size=8, tokens=5000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    config = results(tmp_path / "out")["config"]
    ours = config["overtrain"]
    (tuned,) = ours["modifications"]
    assert len(ours["weights_id"]) == len(ours["cell_id"]) == 64
    assert ours["tokens"] == 5000
    assert ours["dtype"] == "float32"
    assert tuned["modification"] == "finetune"
    assert tuned["learning_rate"] == 1e-3
    assert tuned["metrics"]["train_steps"] == 2
    assert tuned["metrics"]["distance"] > 0
    assert len(tuned["training_data"]["hash"]) == 64
    assert {"torch", "transformers", "lm_eval", "lm-eval-overtrain"} <= ours["versions"].keys()
    (samples,) = (tmp_path / "out").rglob("samples_overtrain_text_*.jsonl")
    assert len(samples.read_text().splitlines()) == 4


def test_perturb_by_lm_eval_dash_run_and_a_config_file(make_model, text_file, tmp_path):
    config = {
        "model": "overtrain_perturb",
        "model_args": {"pretrained": str(make_model("olmo")), "gamma": 0.1, "init_std": "0.02", "seed": 3},
        "tasks": ["overtrain_text"],
        "include_path": INCLUDE,
        "output_path": str(tmp_path / "out"),
    }
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    done = run("lm-eval", "run", "--config", file, OVERTRAIN_TEXT=str(text_file))
    assert done.returncode == 0, done.stderr[-3000:]
    (noise,) = results(tmp_path / "out")["config"]["overtrain"]["modifications"]
    assert (noise["gamma"], noise["seed"], noise["init_std_source"]) == (0.1, 3, "0.02")


@pytest.mark.slow
def test_a_recipe_by_python_m_lm_eval(evaluate, make_model, sums, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"- finetune: {{data: {sums}, learning_rate: 1e-3, max_steps: 1, train_batch_size: 4}}\n"
        "- gaussian: {gamma: 0.1, init_std: '0.02'}\n"
    )
    done = evaluate(
        "overtrain", command=(sys.executable, "-m", "lm_eval"), pretrained=make_model("olmo"), recipe=recipe
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps = results(tmp_path / "out")["config"]["overtrain"]["modifications"]
    assert [s["modification"] for s in steps] == ["finetune", "gaussian"]
    assert all(s["metrics"]["distance"] > 0 for s in steps)


def test_without_the_hook_stock_lm_eval_does_not_know_us_and_our_module_does(make_model, text_file):
    probe = "import lm_eval.models; from lm_eval.api.registry import model_registry as r; print('overtrain_ft' in r, 'hf' in r)"
    assert run(sys.executable, "-c", probe).stdout.split() == ["True", "True"]
    assert run(sys.executable, "-c", probe, OVERTRAIN_NO_HOOK="1").stdout.split() == ["False", "True"]
    done = run(
        sys.executable, "-m", "model_wrappers", "--model", "overtrain_perturb", "--model_args",
        model_args(pretrained=make_model("olmo"), gamma=-1), "--tasks", "overtrain_text", "--include_path", INCLUDE,
        OVERTRAIN_NO_HOOK="1", OVERTRAIN_TEXT=str(text_file),
    )  # fmt: skip
    assert_one_message(done, "gamma=-1.0", "0 or more")


@pytest.mark.parametrize(
    ("model", "args", "words"),
    [
        ("overtrain_perturb", {"gama": 0.1}, ["'gama'", "did you mean 'gamma'"]),
        ("overtrain_ft", {"data": "no/such/file.jsonl", "learning_rate": 1e-3}, ["no/such/file.jsonl"]),
    ],
)
def test_bad_input_ends_stock_lm_eval_with_one_message_and_2(evaluate, make_model, model, args, words):
    assert_one_message(evaluate(model, pretrained=make_model("olmo"), **args), *words)


def test_task_commands_of_lm_eval_accept_our_folder():
    folder = run("overtrain", "tasks").stdout.strip()
    listed = run("lm_eval", "ls", "tasks", "--include_path", folder)
    for name in ("overtrain_core8", "overtrain_ten", "overtrain_c4", "overtrain_text"):
        assert name in listed.stdout
    valid = run("lm_eval", "validate", "--tasks", "overtrain_ten,overtrain_c4", "--include_path", folder)
    assert valid.returncode == 0
    assert "All tasks found and valid" in valid.stdout


@pytest.mark.slow
def test_torchrun_trains_once_and_scores_disjoint_documents(make_model, sums, text_file, tmp_path, own_cache):
    """Two gloo processes against one: same weights up to rounding, same log-likelihoods to 1e-4, one results file."""
    found = {}
    for processes in (1, 2):
        cache, out = tmp_path / f"cache{processes}", tmp_path / f"out{processes}"
        launch = ["torchrun", "--nproc-per-node", processes, "--master-port", "0", "--rdzv-backend", "c10d"]
        launch += ["--rdzv-endpoint", "localhost:0", "-m", "lm_eval"]
        done = run(
            *(launch if processes > 1 else ["lm_eval"]), "--model", "overtrain_ft", "--model_args",
            model_args(pretrained=make_model("olmo"), data=sums, learning_rate=1e-2, epochs=2, train_batch_size=10),
            "--tasks", "overtrain_text", "--include_path", INCLUDE, "--output_path", out, "--log_samples",
            OVERTRAIN_TEXT=str(text_file), OVERTRAIN_CACHE=str(cache),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        (entry,) = [p for p in (cache / "weights").iterdir() if not p.name.startswith(".")]
        (samples,) = out.rglob("samples_*.jsonl")
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        found[processes] = (
            results(out),
            {line["doc_id"]: logged_text(line) for line in lines},
            json.loads((entry / "overtrain_weights.json").read_text()),
        )
    (one, by_one, _), (two, by_two, meta) = found[1], found[2]
    assert meta["processes"] == 2
    assert by_one.keys() == by_two.keys() == set(range(len(TEXTS)))
    for doc, value in by_one.items():
        assert float(by_two[doc]) == pytest.approx(float(value), abs=1e-4)
    assert one["config"]["overtrain"]["weights_id"] == two["config"]["overtrain"]["weights_id"]
    assert one["config"]["overtrain"]["cell_id"] == two["config"]["overtrain"]["cell_id"]


KILLED = """
import os, signal, sys
from transformers import TrainerCallback
from model_wrappers.compat import logged_text
from model_wrappers.training import trainer
kill_at = int(sys.argv.pop(1))
class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
init = trainer._Trainer.__init__
def with_kill(self, *args, **kwargs):
    init(self, *args, **kwargs)
    self.add_callback(Kill())
trainer._Trainer.__init__ = with_kill
from pathlib import Path
import torch
from transformers import AutoTokenizer
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.materialise import tuned_weights
from model_wrappers.modifications.registry import registry
model, data, every = sys.argv[1:]
tuning = registry()["finetune"].parse(
    dict(data=data, learning_rate=1e-2, max_steps=9, train_batch_size=4, resume_every=every))
entry = tuned_weights(Checkpoint(repo=model), [tuning], AutoTokenizer.from_pretrained(model), device=torch.device("cpu"))
print(len(entry.meta["steps"][0]["record"]["training_log"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("every", [0, 2])
def test_killed_three_times_and_run_again_gives_the_same_weights(make_model, sums, tmp_path, every):
    """With states to resume from and without: the sha256 of the weights equals that of the undisturbed run."""
    from model_wrappers.checkpoints.checkpoint import Checkpoint

    def train(kill_at, cache):
        return run(sys.executable, "-c", KILLED, kill_at, make_model("olmo"), sums, every, OVERTRAIN_CACHE=str(cache))

    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    assert train(0, undisturbed).returncode == 0
    for kill_at in (3, 5, 8):
        assert train(kill_at, disturbed).returncode == -9
        assert not [p for p in (disturbed / "weights").iterdir() if not p.name.startswith(".")]
    finished = train(0, disturbed)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.split()[-1] == "9"
    hashes = []
    for cache in (undisturbed, disturbed):
        (entry,) = [p for p in (cache / "weights").iterdir() if not p.name.startswith(".")]
        hashes.append(Checkpoint(repo=entry).weight_hashes())
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_two_processes_with_one_spec_train_once(make_model, sums, tmp_path):
    command = [sys.executable, "-c", KILLED, "0", str(make_model("olmo")), str(sums), "0"]
    import os

    env = os.environ | {"OVERTRAIN_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    errors = [p.communicate(timeout=200)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], errors
    trained = [error for error in errors if "9/9" in error]  # the progress bar of a training that ran to its end
    assert len(trained) == 1


def test_a_full_disk_is_one_message_and_leaves_no_entry(make_model, sums, text_file, tmp_path):
    """A limit on file sizes makes the system refuse the write half-way, as a full disk does."""
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); "
        f"sys.argv[0] = {str(BIN / 'lm_eval')!r}; from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    )
    done = run(
        sys.executable, "-c", limited, "--model", "overtrain_ft", "--model_args",
        model_args(pretrained=make_model("olmo"), data=sums, learning_rate=1e-3, max_steps=1, train_batch_size=4),
        "--tasks", "overtrain_text", "--include_path", INCLUDE,
        OVERTRAIN_TEXT=str(text_file), OVERTRAIN_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert_one_message(done, "cannot write under", "overtrain cache prune")
    assert [p.name for p in (tmp_path / "cache" / "weights").iterdir() if not p.name.endswith((".lock", ".work"))] == []
