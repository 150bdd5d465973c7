"""Different outcome, different id; what only says where and how fast is in none."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from lm_eval.api.instance import Instance
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import CheckpointError, ConfigError, DivergedError
from model_wrappers.identity import tokenizer_sha256, weights_id
from model_wrappers.lm import FineTunedLM, PerturbedLM
from model_wrappers.modifications.registry import registry


@pytest.fixture
def copied(make_model, tmp_path):
    """Return a function that copies a tiny model and changes its config.json and tokenizer.json."""

    def make(name, config=None, tokenizer=None):
        folder = shutil.copytree(make_model("llama"), tmp_path / name)
        for file, changes in (("config.json", config), ("tokenizer.json", tokenizer)):
            content = json.loads((folder / file).read_text())
            for key, value in (changes or {}).items():
                content[key] = value
            (folder / file).write_text(json.dumps(content))
        return folder

    return make


def base(folder, **arguments):
    return PerturbedLM(pretrained=str(folder), gamma=0, batch_size=1, device="cpu", **arguments)


def asked(model, context="Eat well,", continuation=" sleep well"):
    request = Instance("loglikelihood", {}, (context, continuation), 0, metadata=("task", 0, 1))
    (found,) = model.loglikelihood([request], disable_tqdm=True)
    return found[0], model.get_model_info()["overtrain"]["cell_id"]


def rope(theta):
    return {"rope_parameters": {"rope_theta": theta, "rope_type": "default"}}


@pytest.mark.parametrize(
    "config", [rope(100.0), {"rms_norm_eps": 0.1}, {"attention_dropout": 0.5}, {"num_hidden_layers": 1}]
)
def test_the_configuration_is_in_weights_id(copied, config):
    one, other, same = copied("one"), copied("other", config), copied("same", {"_name_or_path": "elsewhere"})
    tokenizer = AutoTokenizer.from_pretrained(one)
    ids = [weights_id(Checkpoint(repo=folder), (), tokenizer) for folder in (one, other, same)]
    assert ids[0] == ids[2] != ids[1]


def test_scores_and_ids_move_together(copied):
    """Each change moves the score, or leaves score and id as they are."""
    plain = copied("plain")
    score, cell = asked(base(plain))
    moved = {
        "configuration": asked(base(copied("theta", rope(3.0)))),
        "override": asked(base(plain, num_hidden_layers=1)),
        "bos": asked(base(plain, add_bos_token=True, prefix_token_id=0)),
        "context": asked(base(plain, max_length=2)),
    }
    for what, (other_score, other_cell) in moved.items():
        assert other_cell != cell, what
        if what != "bos":  # a tiny model without a BOS token has nothing to add
            assert other_score != pytest.approx(score, abs=1e-4), what
    for same in ({"batch_size": 4}, {"max_batch_size": 2}, {"attn_implementation": "eager"}, {"truncation": False}):
        again, id_again = asked(
            PerturbedLM(**{"pretrained": str(plain), "gamma": 0, "batch_size": 1, "device": "cpu"} | same)
        )
        assert (id_again, again) == (cell, pytest.approx(score, abs=1e-5)), same


def test_the_tokenizer_is_in_cell_id(copied):
    plain, other = copied("plain"), copied("other")
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["merges"] = content["model"]["merges"][:20]
    (other / "tokenizer.json").write_text(json.dumps(content))
    one, two = base(plain), base(other)
    assert one.weights_id == two.weights_id
    assert asked(one)[1] != asked(two)[1]
    assert asked(base(plain, tokenizer=str(other)))[1] == asked(two)[1]


def test_what_calls_leave_in_a_tokenizer_is_no_part_of_it(make_model):
    tokenizer = AutoTokenizer.from_pretrained(make_model("llama"))
    before = tokenizer_sha256(tokenizer)
    tokenizer(["a", "a longer text"], padding=True, truncation=True, max_length=3)
    assert tokenizer_sha256(tokenizer) == before


def test_an_override_holds_for_training_and_evaluation_or_is_refused(copied, tmp_path):
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{a} + 1 =", "completion": f" {a + 1}"}) + "\n" for a in range(8)))
    folder = copied("two layers")
    arguments = {"data": str(data), "learning_rate": 1e-2, "max_steps": 1, "train_batch_size": 4}
    tuned = FineTunedLM(pretrained=str(folder), device="cpu", num_hidden_layers=1, **arguments)
    assert len(tuned.model.model.layers) == 1
    assert "distance/layers.1" not in tuned._steps[0].metrics
    assert tuned.weights_id != FineTunedLM(pretrained=str(folder), device="cpu", **arguments).weights_id


def test_an_override_that_transformers_does_not_take_is_a_clear_error(copied):
    folder = copied("old style", {"rope_theta": 10000.0})
    with pytest.raises(ConfigError, match=r"rope_theta=3\.0: .*config\.json"):
        base(folder, rope_theta=3.0)


def test_the_step_0_weights_are_in_weights_id(make_model, tmp_path):
    shutil.copytree(make_model("olmo", seed=0), tmp_path / "step0")
    checkpoint = Checkpoint(repo=shutil.copytree(make_model("olmo", seed=1), tmp_path / "late"))
    noise = registry()["gaussian"].parse({"gamma": 0.1, "init_std": "step0:step0"})
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.location())
    before = weights_id(checkpoint, (noise,), tokenizer)
    shutil.copyfile(make_model("olmo", seed=2) / "model.safetensors", tmp_path / "step0" / "model.safetensors")
    assert weights_id(checkpoint, (noise,), tokenizer) != before


def test_arguments_without_effect_change_no_id(make_model, tmp_path):
    rows = [{"prompt": f"{a} + 1 =", "completion": f" {a + 1}"} for a in range(20)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    copy = tmp_path / "copy.jsonl"
    copy.write_text(data.read_text())
    checkpoint = Checkpoint(repo=make_model("olmo"))
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.location())
    plain = {"data": str(data), "learning_rate": 1e-3, "max_steps": 4, "train_batch_size": 4}

    def found(**changed):
        return weights_id(checkpoint, (registry()["finetune"].parse(plain | changed),), tokenizer)

    assert all(
        found(**same) == found()
        for same in (
            {"epochs": 3}, {"data_limit": 20}, {"data_limit": 100}, {"data": str(copy)}, {"micro_batch_size": 2},
            {"resume_every": 1}, {"gradient_checkpointing": True}, {"data_format": "prompt_completion"},
        )
    )  # fmt: skip
    moved = [
        {"learning_rate": 2e-3}, {"data_limit": 10}, {"data_seed": 1}, {"max_steps": 5}, {"seed": 1}, {"weight_decay": 0.1},
        {"train_max_length": 8}, {"template": "qa"}, {"validation_fraction": 0.2}, {"max_steps": None, "epochs": 2},
    ]  # fmt: skip
    assert len({found(), *(found(**other) for other in moved)}) == 1 + len(moved)


def test_missing_weights_are_refused(copied):
    folder = copied("half")
    weights = load_file(folder / "model.safetensors")
    gone = sorted(name for name in weights if "layers.1.mlp" in name)
    save_file(
        {n: w for n, w in weights.items() if n not in gone}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(CheckpointError, match=rf"lacks {len(gone)} weights of a LlamaForCausalLM: {gone[0]}"):
        base(folder)
    with pytest.raises(CheckpointError, match="lacks"):
        FineTunedLM(pretrained=str(folder), device="cpu", data="gsm8k", learning_rate=1e-3, max_steps=0)


@pytest.mark.parametrize("architecture", ["olmo", "olmo2", "llama", "gpt_neox"])
def test_tied_weights_are_not_missing(make_model, architecture):
    assert asked(base(make_model(architecture, tied=True)))[0] < 0


def test_weights_that_are_not_finite_are_no_outcome(make_model, tmp_path):
    folder = shutil.copytree(make_model("olmo"), tmp_path / "nan")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[3, 5] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(DivergedError, match=r"1 of \d+ numbers in lm_head.weight are not finite"):
        base(folder)
    with pytest.raises(DivergedError, match=r"gaussian with .*are not finite"):
        PerturbedLM(pretrained=str(make_model("olmo")), gamma=1e300, init_std="0.02", device="cpu")
    large = PerturbedLM(
        pretrained=str(make_model("olmo")), gamma=1e4, init_std="0.02", device="cpu"
    )  # large, and finite
    assert torch.isfinite(large.model.lm_head.weight).all()
