"""Ladders: initialisation, schedule, checkpoints, and what a kill leaves behind."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model_wrappers.errors import ConfigError, DataError, StoreError
from model_wrappers.files import whole_folder, write_whole
from overtrain.pretrain import prepared as prepared_module
from overtrain.pretrain.ladder import finished, pretrain, train_run
from overtrain.pretrain.model import build, initial_std, initialise
from overtrain.pretrain.prepared import prepare
from overtrain.pretrain.recipe import Recipe
from overtrain.pretrain.text import Document, Text

TINY = Recipe(budgets=(2_560, 64_000), width=8, mlp=16, layers=1, context=16, vocabulary=300, batch=4)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    documents = tuple(
        Document(f"{n}.py", " ".join(words[(n * k + k) % 8] for k in range(1, 90))) for n in range(1, 401)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_module, "collect", lambda _: Text(documents, documents[:3], {"python": 1}, "hash"))
        return prepare(TINY, tmp_path_factory.mktemp("ladder") / "text")


def test_recorded_deviations_are_those_of_a_fresh_model():
    recipe = Recipe(budgets=(2048,), width=64, mlp=256, layers=3, heads=4)
    model = build(recipe, 0)
    deviations = initial_std(model, recipe)
    initialise(model, deviations, seed=1)
    assert deviations["model.embed_tokens.weight"] == 0.02
    assert deviations["lm_head.weight"] == pytest.approx(1 / 8)
    assert deviations["model.layers.2.mlp.down_proj.weight"] == pytest.approx(1 / (16 * 6**0.5))
    assert deviations["model.layers.0.self_attn.o_proj.weight"] == pytest.approx(1 / (8 * 6**0.5))
    assert set(deviations) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        error = 1 / (2 * parameter.numel()) ** 0.5  # relative standard error of a deviation
        assert parameter.std().item() == pytest.approx(deviations[name], rel=5 * error), name
        assert abs(parameter.mean().item()) < 5 * deviations[name] / parameter.numel() ** 0.5, name


def test_norm_gains_have_no_deviation_and_stay():
    from transformers import Olmo2Config, Olmo2ForCausalLM

    recipe = Recipe(budgets=(2048,))
    config = Olmo2Config(
        vocab_size=512,
        hidden_size=16,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=None,
        eos_token_id=0,
    )
    model = Olmo2ForCausalLM(config)
    deviations = initial_std(model, recipe)
    gains = {name for name, parameter in model.named_parameters() if parameter.ndim == 1}
    assert gains
    assert {name for name, deviation in deviations.items() if deviation == 0} == gains
    initialise(model, deviations, seed=0)
    assert all(torch.equal(p, torch.ones_like(p)) for n, p in model.named_parameters() if n in gains)


def test_initialisation_depends_on_the_seed_and_leaves_the_global_generator():
    recipe = Recipe(budgets=(2048,))
    models = [build(recipe, 0) for _ in range(3)]
    before = torch.random.get_rng_state()
    for model, seed in zip(models, (0, 0, 1), strict=True):
        initialise(model, initial_std(model, recipe), seed)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(models[0].lm_head.weight, models[1].lm_head.weight)
    assert not torch.equal(models[0].lm_head.weight, models[2].lm_head.weight)


def test_default_recipe_is_the_measured_size():
    model = build(Recipe(budgets=(2048,)), 0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 24_576


@pytest.mark.parametrize("steps", [1, 2, 7, 125, 4000])
def test_schedule_warms_up_and_ends_at_zero(steps):
    recipe = Recipe(budgets=(2048,))
    rates = [recipe.learning_rate(step, steps) for step in range(steps + 1)]
    assert rates[-1] == 0
    assert max(rates) == pytest.approx(0.01)
    assert all(rate > 0 for rate in rates[:-1])
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top == max(0, round(0.1 * steps) - 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budgets": ()}, "give at least one"),
        ({"budgets": (100,)}, "one step of 2048 tokens"),
        ({"budgets": (4096, 4100)}, "must ascend"),
        ({"budgets": (4096,), "heads": 3}, "width=16, heads=3"),
        ({"budgets": (4096,), "batch": 0}, "batch=0"),
        ({"budgets": (4096,), "warmup_fraction": 1.0}, "warmup_fraction=1.0"),
        ({"budgets": (4096,), "peak_learning_rate": 0.0}, "peak_learning_rate=0.0"),
    ],
)
def test_impossible_recipes_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**fields)


def test_checkpoint_is_a_hugging_face_folder_that_has_learnt(text, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = train_run(TINY, 64_000, text, tmp_path)
    about = json.loads((folder / "overtrain.json").read_text())
    assert about["tokens"] == 64_000
    assert about["learning_rate_final"] == 0
    assert about["text_sha256"] == "hash"
    assert about["epochs"] == pytest.approx(64_000 / text.about["tokens"])
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert set(json.loads((folder / "init_std.json").read_text())["std"]) == {n for n, _ in model.named_parameters()}
    tokens = torch.from_numpy(text.tokens()[:64].astype("int64")).view(4, 16)
    with torch.no_grad():
        loss = model(tokens, labels=tokens).loss.item()
    assert loss < 0.7 * math.log(TINY.vocabulary)
    assert about["train_loss_last_tenth"] == pytest.approx(loss, abs=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokens[0]) == text.tokenizer().decode(tokens[0])


def test_repeating_the_text_too_often_is_refused(text, tmp_path):
    with pytest.raises(DataError, match="more than 4 times"):
        train_run(Recipe(**{**_fields(TINY), "budgets": (640_000,)}), 640_000, text, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_another_recipe_is_refused(text, tmp_path):
    train_run(TINY, 2_560, text, tmp_path)
    assert finished(TINY, 2_560, text, tmp_path)
    with pytest.raises(StoreError, match="another recipe or on other text"):
        finished(Recipe(**{**_fields(TINY), "seed": 1}), 2_560, text, tmp_path)


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_bytes(text, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from overtrain.pretrain import PreparedText, Recipe, pretrain\n"
        "if __name__ == '__main__':\n"
        f"    recipe = Recipe(**{_fields(TINY)!r})\n"
        f"    pretrain(recipe, PreparedText(Path({str(text.root)!r})), Path({str(tmp_path / 'killed')!r}), workers=1,\n"
        "             progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    time.sleep(1)  # a worker that outlived its parent would finish its second of work
    assert not (tmp_path / "killed" / "tokens-64000").exists()

    whole = pretrain(TINY, text, tmp_path / "killed", workers=1)
    again = pretrain(TINY, text, tmp_path / "undisturbed", workers=2)
    assert [folder.name for folder in whole] == ["tokens-2560", "tokens-64000"]
    for left, right in zip(whole, again, strict=True):
        assert _hashes(left) == _hashes(right)
        assert "model.safetensors" in _hashes(left)


def test_finished_budgets_are_not_trained_again(text, tmp_path):
    recipe = Recipe(**{**_fields(TINY), "budgets": (2_560,)})
    train_run(recipe, 2_560, text, tmp_path)
    before = (tmp_path / "tokens-2560" / "model.safetensors").stat().st_mtime_ns
    counted = []
    assert pretrain(recipe, text, tmp_path, workers=1, progress=counted.append) == [tmp_path / "tokens-2560"]
    assert counted == []
    assert (tmp_path / "tokens-2560" / "model.safetensors").stat().st_mtime_ns == before


def test_folders_are_whole_or_absent(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    abandoned = tmp_path / f".folder.{int(ended.stdout)}.tmp"
    running = tmp_path / f".folder.{os.getppid()}.tmp"
    abandoned.mkdir()
    running.mkdir()
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "folder") as fresh:
        (fresh / "half").write_text("")
        raise RuntimeError
    assert set(tmp_path.iterdir()) == {running}
    with whole_folder(tmp_path / "folder") as fresh:
        (fresh / "file").write_text("first")
    with whole_folder(tmp_path / "folder") as fresh:
        (fresh / "file").write_text("second")
    assert (tmp_path / "folder" / "file").read_text() == "first"
    write_whole(tmp_path / "new" / "file", "text")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def _fields(recipe):
    import dataclasses

    return dataclasses.asdict(recipe)


def _hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
