"""Checkpoints, recipes and arguments that cannot be loaded: each is one message to the user, never a traceback."""

from __future__ import annotations

import json
import shutil

import pytest
from commands import INCLUDE, assert_one_message, model_args, run
from damages import DAMAGES

from model_wrappers.errors import CheckpointError, ConfigError, DataError, OvertrainError, StoreError
from model_wrappers.lm import FineTunedLM, PerturbedLM, RecipeLM


@pytest.fixture(scope="session")
def sums(tmp_path_factory):
    path = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{a} + 1 =", "completion": f" {a + 1}"}) + "\n" for a in range(16)))
    return path


@pytest.fixture
def copied(make_model, tmp_path):
    return shutil.copytree(make_model("llama"), tmp_path / "model")


def noise(model, **more):
    return PerturbedLM(pretrained=str(model), **{"gamma": 0.1, "init_std": 0.02, "device": "cpu"} | more)


def tuned(model, data, **more):
    given = {"data": str(data), "learning_rate": 1e-3, "max_steps": 1, "train_batch_size": 4, "device": "cpu"}
    return FineTunedLM(pretrained=str(model), **given | more)


def t5(folder):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    (folder / "model.safetensors").unlink()
    T5ForConditionalGeneration(config).save_pretrained(folder)


@pytest.mark.faults("checkpoint damaged, unsafe or incomplete")
@pytest.mark.parametrize("what", DAMAGES)
def test_a_checkpoint_that_cannot_be_loaded_is_one_message(what, copied, sums):
    damage, said = DAMAGES[what]
    damage(copied)
    for build in (lambda: noise(copied), lambda: tuned(copied, sums)):
        with pytest.raises(OvertrainError, match=said) as caught:
            build()
        assert "\n" not in str(caught.value)
    assert not (copied / "ran").exists()


@pytest.mark.faults("checkpoint damaged, unsafe or incomplete")
def test_an_encoder_decoder_is_no_model_to_tune(copied, sums):
    t5(copied)
    with pytest.raises(ConfigError, match="type 't5', which is no causal language model"):
        tuned(copied, sums)


@pytest.mark.faults("checkpoint damaged, unsafe or incomplete")
def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(make_model, copied, sums, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_pretrained(copied)
        model.resize_token_embeddings(40)
        model.save_pretrained(copied)
    with pytest.raises(DataError, match="embeddings for 40 tokens only"):
        tuned(copied, sums)


@pytest.mark.faults("argument wrong or not possible here")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("device", d) for d in ("cuda", "cuda:7", "gpu", "mps", "tpu", "")],
        *[("batch_size", b) for b in ("many", 0, -3, 1.5)],
        *[("dtype", d) for d in ("float12", "int8", 5)],
        *[("max_length", n) for n in ("long", -1, 0)],
        ("max_batch_size", "x"),
        ("softmax_dtype", "x"),
        ("load_in_4bit", True),
        ("load_in_8bit", True),
        ("attn_implementation", "nosuch"),
        ("tokenizer", "/nowhere"),
        ("tokenizer", 5),
        ("peft", "/nowhere"),
        ("delta", "/nowhere"),
        ("add_bos_token", "maybe"),
        ("truncation", "maybe"),
        ("logits_cache", "x"),
        ("trust_remote_code", "maybe"),
        ("prefix_token_id", "x"),
        ("backend", "nosuch"),
        ("gguf_file", "x.gguf"),
        ("autogptq", True),
        ("enable_thinking", True),
        ("num_hidden_layers", "x"),
        ("subfolder", "nowhere"),
        ("tokens", "many"),
        ("parallelize", True),
    ],
)
def test_an_argument_that_cannot_be_is_one_message_that_names_it(name, value, make_model, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OvertrainError, match=name) as caught:
        noise(make_model("llama"), **{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.faults("argument wrong or not possible here")
@pytest.mark.parametrize("text", ["", "/nowhere", "a b", "x" * 300, "a\0b", "org/nosuch", "../..", 5, None, ["a"]])
@pytest.mark.parametrize("name", ["pretrained", "data", "recipe"])
def test_a_place_that_cannot_be_is_one_message(name, text, make_model):
    model = make_model("llama")
    with pytest.raises(OvertrainError):
        if name == "recipe":
            RecipeLM(pretrained=str(model), recipe=text, device="cpu")
        elif name == "data":
            tuned(model, text) if isinstance(text, str) else FineTunedLM(
                pretrained=str(model), data=text, learning_rate=1, device="cpu"
            )
        else:
            PerturbedLM(pretrained=text, gamma=0.1, init_std=0.02, device="cpu")


RECIPES = {
    "latin-1": ("- gaussian: {gamma: 0.1} # caf\u00e9".encode("latin-1"), "give a YAML file in UTF-8"),
    "a list for fields": (b"- gaussian: [1]", "line 1: gaussian: must be a mapping"),
    "a word for fields": (b"- gaussian: gamma", "line 1: gaussian: must be a mapping"),
    "a number": (b"- gaussian: {gamma: 0.1}\n- 3", "line 2: unknown modification '3'"),
    "a field twice": (b"- gaussian: {gamma: 0.1, gamma: 0.2}", "line 1: gaussian: 'gamma' is given twice"),
    "the list twice": (b"modifications: [gaussian: {gamma: 1}]\nmodifications: []", "line 2: .* given twice"),
    "a near miss": (b"- gaussian:\n    gama: 0.1", "line 2: gaussian: unknown key 'gama'; did you mean 'gamma'"),
    "a near miss above": (b"modification: []", "unknown key 'modification'; did you mean 'modifications'"),
    "another key": (b"foo: 1\nmodifications: [gaussian: {gamma: 1}]", "line 1: recipe: unknown key 'foo'"),
    "empty": (b"", "must hold a list"),
    "too deep": (b"[" * 3000 + b"]" * 3000, "nested too deeply"),
    "itself": (b"&a [*a]", "must be one modification"),
    "code": (b"- gaussian: {gamma: !!python/object/apply:os.getcwd []}", "not plain data"),
    "a grid": (b"- gaussian: {gamma: [0.1, 0.2]}", r"gamma=\[0.1, 0.2\]: must be a finite number"),
    "two in one": (b"- {gaussian: {gamma: 0.1}, finetune: {}}", "must be one modification"),
    "5,000 digits": (b"- gaussian: {gamma: 1, seed: " + b"9" * 5000 + b"}", "not plain data"),
    "two errors": (b"- gaussian: {gamma: -1}\n- nosuch\n", "2 errors(.|\n)*line 1: gamma=-1.0(.|\n)*line 2: unknown"),
}


@pytest.mark.faults("recipe or study file malformed")
@pytest.mark.parametrize("what", RECIPES)
def test_a_recipe_is_read_as_strictly_as_a_study(what, make_model, tmp_path):
    content, said = RECIPES[what]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        RecipeLM(pretrained=str(make_model("llama")), recipe=str(path), device="cpu")


def test_a_recipe_names_data_beside_itself(sums, tmp_path):
    from model_wrappers.recipe import read_recipe

    shutil.copy(sums, tmp_path / "rows.jsonl")
    (tmp_path / "recipe.yaml").write_text(
        "- finetune: {data: rows.jsonl, learning_rate: 1e-3}\n- gaussian: {gamma: 1}\n"
    )
    tuning, noisy = read_recipe(tmp_path / "recipe.yaml")
    assert (tuning.data, noisy.gamma) == (str(tmp_path / "rows.jsonl"), 1.0)


@pytest.mark.faults("cache or results cannot be written")
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere", "x" * 300])
def test_a_cache_that_cannot_be_is_one_message(place, make_model, sums, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("OVERTRAIN_CACHE", str(tmp_path / place))
    with pytest.raises(StoreError, match="set OVERTRAIN_CACHE to a folder of your own"):
        tuned(make_model("llama"), sums)


@pytest.mark.faults("checkpoint damaged, unsafe or incomplete")
@pytest.mark.slow
@pytest.mark.parametrize("damage", ["half a safetensors", "no tokenizer"])
def test_stock_lm_eval_ends_with_one_line_and_exit_code_2(damage, copied, sums):
    DAMAGES[damage][0](copied)
    given = model_args(pretrained=copied, data=sums, learning_rate="1e-3", max_steps=1, train_batch_size=4)
    done = run("lm_eval", "--model", "overtrain_ft", "--model_args", given, "--tasks", "overtrain_text",
               "--include_path", INCLUDE, "--device", "cpu")  # fmt: skip
    assert_one_message(done, str(copied))


def test_an_error_of_our_own_keeps_its_traceback(make_model, sums, monkeypatch):
    """What a modification raises while it works is a bug, and none of the checkpoint's."""
    from model_wrappers.modifications.gaussian import Gaussian

    def broken(*_, **__):
        raise KeyError("a bug")

    monkeypatch.setattr(Gaussian, "apply", broken)
    with pytest.raises(KeyError, match="a bug"):
        noise(make_model("llama"))


def test_memory_that_is_too_small_is_no_damage(make_model):
    from model_wrappers.checkpoints.checkpoint import Checkpoint
    from model_wrappers.checkpoints.load_errors import loading

    with pytest.raises(MemoryError), loading("weights", Checkpoint(repo=make_model("llama"))):
        raise MemoryError


def test_the_cause_is_kept_for_the_log(copied):
    (copied / "config.json").write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        noise(copied)
    assert isinstance(caught.value.__cause__, ValueError)
