from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model_wrappers.checkpoints import hub
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.checkpoints.families import FAMILIES
from model_wrappers.checkpoints.initial_std import resolve_initial_std
from model_wrappers.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, MLP, LAYERS = 32, 64, 2
SHAPE = {
    "vocab_size": 48,
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}
KINDS = {
    "olmo": (transformers.OlmoConfig, transformers.OlmoForCausalLM),
    "olmo2": (transformers.Olmo2Config, transformers.Olmo2ForCausalLM),
    "pythia": (transformers.GPTNeoXConfig, transformers.GPTNeoXForCausalLM),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
}


def build(kind: str, **more: Any) -> Any:
    config, model = KINDS[kind]
    return model(config(**SHAPE | more))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Checkpoint:
    """A folder that holds nothing and has no known name."""
    (tmp_path / "model").mkdir()
    return Checkpoint(repo=tmp_path / "model")


def published(monkeypatch: pytest.MonkeyPatch, repo: str) -> Checkpoint:
    """A hub repository without any file beside the weights."""
    monkeypatch.setattr(hub, "snapshot", lambda *_: hub.Snapshot(sha="0" * 40, files={}))
    return Checkpoint(repo=repo)


def is_gain_or_bias(name: str) -> bool:
    return "norm" in name or name.endswith("bias")


# ---- published recipes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_olmo_is_mitchell(monkeypatch: pytest.MonkeyPatch, tied: bool) -> None:
    model = build("olmo", tie_word_embeddings=tied)
    found = resolve_initial_std("auto", model, published(monkeypatch, "allenai/OLMo-1B-hf"))
    expected = {
        "model.embed_tokens.weight": 32**-0.5,
        **{f"model.layers.{n}.self_attn.{part}_proj.weight": 32**-0.5 for n in (0, 1) for part in "qkv"},
        **{f"model.layers.{n}.mlp.{part}_proj.weight": 32**-0.5 for n in (0, 1) for part in ("gate", "up")},
        "model.layers.0.self_attn.o_proj.weight": 1 / 8,  # 1 / sqrt(2 * 32 * 1)
        "model.layers.1.self_attn.o_proj.weight": 1 / math.sqrt(128),
        "model.layers.0.mlp.down_proj.weight": 1 / math.sqrt(128),  # 1 / sqrt(2 * 64 * 1)
        "model.layers.1.mlp.down_proj.weight": 1 / 16,
    } | ({} if tied else {"lm_head.weight": 32**-0.5})
    assert found.std == pytest.approx(expected, rel=1e-12)
    assert found.source == "family:olmo"
    assert "allenai/OLMo" in found.cited


def test_olmo_1b_has_the_known_values() -> None:
    std, config = FAMILIES["olmo"].initial_std, SimpleNamespace(hidden_size=2048)
    assert std is not None
    assert std("model.layers.15.self_attn.o_proj.weight", (2048, 2048), config) == 1 / 256
    assert std("model.layers.15.mlp.down_proj.weight", (2048, 8192), config) == 1 / 512


def test_olmo2_is_one_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("olmo2")
    found = resolve_initial_std("auto", model, published(monkeypatch, "allenai/OLMo-2-1124-7B"))
    assert found.std == {name: 0.0 if p.dim() == 1 else 0.02 for name, p in model.named_parameters()}
    assert sum(std == 0 for std in found.std.values()) == 4 * LAYERS + 1


def test_pythia_is_small_init_with_wang_projections(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("pythia")
    found = resolve_initial_std("auto", model, published(monkeypatch, "EleutherAI/pythia-70m"))
    outputs = ("attention.dense.weight", "mlp.dense_4h_to_h.weight")
    for name, std in found.std.items():
        if is_gain_or_bias(name):
            assert std == 0
        elif name.endswith(outputs):
            assert std == pytest.approx(2 / (2 * math.sqrt(32)))
        else:
            assert std == pytest.approx(math.sqrt(2 / 160))
    assert sum(name.endswith(outputs) for name in found.std) == 2 * LAYERS


@pytest.mark.parametrize("name", ["olmo", "olmo2", "pythia"])
def test_a_recipe_covers_its_architecture_and_cites_it(name: str, elsewhere: Checkpoint) -> None:
    model = build(name)
    found = resolve_initial_std(f"family:{name}", model, elsewhere)
    assert set(found.std) == {n for n, _ in model.named_parameters()}
    assert all((std == 0) == is_gain_or_bias(n) for n, std in found.std.items())
    assert "https://github.com/" in found.cited


def test_a_recipe_that_does_not_fit_is_refused(elsewhere: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"says nothing of gpt_neox\.embed_in\.weight, .* and 22 more"):
        resolve_initial_std("family:olmo", build("pythia"), elsewhere)
    with pytest.raises(ConfigError, match=r"did you mean 'pythia'\?; choose init_std=auto"):
        resolve_initial_std("family:pythias", build("pythia"), elsewhere)


# ---- a number ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_number_is_for_every_matrix(kind: str, elsewhere: Checkpoint) -> None:
    model = build(kind)
    found = resolve_initial_std("0.02", model, elsewhere)
    assert found.std == {name: 0.0 if is_gain_or_bias(name) else 0.02 for name, _ in model.named_parameters()}
    assert found.source == "0.02"


def test_tied_embeddings_appear_once(elsewhere: Checkpoint) -> None:
    names = [
        n
        for n in resolve_initial_std("2e-2", build("llama", tie_word_embeddings=True), elsewhere).std
        if "layers" not in n
    ]
    assert names == ["model.embed_tokens.weight", "model.norm.weight"]


@pytest.mark.parametrize("wrong", ["0", "-0.02", "nan", "inf", "step0:", "record", "yes", ""])
def test_what_is_no_source_lists_the_sources(wrong: str, elsewhere: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"recorded .*step0:REVISION .*family:olmo.*or a number such as 0\.02"):
        resolve_initial_std(wrong, build("llama"), elsewhere)


# ---- recorded ------------------------------------------------------------------------------------------------------


def record(checkpoint: Checkpoint, std: Any, **more: Any) -> None:
    (checkpoint._folder() / "init_std.json").write_text(json.dumps({"source": "our ladder", "std": std} | more))


def test_what_was_recorded_goes_before_the_family(elsewhere: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("olmo")
    std = {name: n / 100 for n, (name, _) in enumerate(model.named_parameters())}
    record(elsewhere, std | {"not.a.parameter": 1})
    for source in ("auto", "recorded"):
        found = resolve_initial_std(source, model, elsewhere)
        assert (found.std, found.source, found.cited) == (std, "recorded", "init_std.json: our ladder")
    beside = elsewhere._folder() / "init_std.json"
    monkeypatch.setattr(Checkpoint, "side_file", lambda self, name: beside)
    known = Checkpoint(repo="allenai/OLMo-1B-hf")
    assert resolve_initial_std("auto", model, known).source == "recorded"
    assert resolve_initial_std("family:olmo", model, known).source == "family:olmo"


def test_either_name_of_tied_embeddings_will_do(elsewhere: Checkpoint) -> None:
    model = build("olmo", tie_word_embeddings=True)
    std = {name: 0.1 for name, _ in model.named_parameters() if "embed" not in name} | {"lm_head.weight": 0.7}
    record(elsewhere, std)
    found = resolve_initial_std("recorded", model, elsewhere).std
    assert found["model.embed_tokens.weight"] == 0.7
    assert "lm_head.weight" not in found


def test_a_record_must_name_every_parameter(elsewhere: Checkpoint) -> None:
    record(elsewhere, {"lm_head.weight": 0.1})
    with pytest.raises(
        CheckpointError, match=r"nothing of 15 of the model's 16 parameters: model\.embed_tokens.* and 10 more"
    ):
        resolve_initial_std("recorded", build("olmo"), elsewhere)


@pytest.mark.parametrize("std", [None, [1], {"a": "0.1"}, {"a": -1}, {"a": True}, {"a": float("nan")}])
def test_a_malformed_record_is_refused(elsewhere: Checkpoint, std: Any) -> None:
    record(elsewhere, std)
    with pytest.raises(CheckpointError, match=r"init_std\.json must be"):
        resolve_initial_std("auto", build("olmo"), elsewhere)


def test_nothing_known_is_an_error_that_lists_the_sources(
    elsewhere: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match=r"no init_std\.json beside"):
        resolve_initial_std("recorded", build("olmo"), elsewhere)
    for checkpoint in (elsewhere, published(monkeypatch, "org/model")):
        with pytest.raises(ConfigError, match=r"are unknown: .*step0:REVISION.*family:olmo.*a number such as 0\.02"):
            resolve_initial_std("auto", build("olmo"), checkpoint)
    with pytest.raises(ConfigError, match=r"LLM360/Amber are unknown \(no table: .*0\.02 everywhere is likely"):
        resolve_initial_std("auto", build("llama"), Checkpoint(repo="LLM360/Amber"))


# ---- step 0 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ladder(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """``step0`` beside ``step9``; each matrix with a deviation of its own, gains 1, and no mean of zero."""
    model = build("olmo2")
    with torch.no_grad():
        for n, p in enumerate(model.parameters()):
            p.copy_(torch.ones_like(p) if p.dim() == 1 else 0.1 + 0.01 * (n + 1) * torch.randn_like(p))
    model.save_pretrained(tmp_path / "step0")
    build("olmo2").save_pretrained(tmp_path / "step9")
    return tmp_path, {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("how", ["step0:step0", "step0:{}/step0"])
def test_step_0_is_measured(ladder: Any, form: str, how: str) -> None:
    folder, start = ladder
    if form == "bin":
        torch.save(load_file(folder / "step0/model.safetensors"), folder / "step0/pytorch_model.bin")
        (folder / "step0/model.safetensors").unlink()
    found = resolve_initial_std(how.format(folder), build("olmo2"), Checkpoint(repo=folder / "step9"))
    assert found.std == pytest.approx({n: float(p.double().std(correction=0)) for n, p in start.items()}, rel=1e-5)
    assert {n for n, std in found.std.items() if std == 0} == {n for n in start if "norm" in n}
    assert found.source == how.format(folder)
    assert str(folder / "step0") in found.cited


def test_step_0_of_files_with_other_names_is_measured_as_loaded(tmp_path: Path) -> None:
    """Pythia's files call the output matrix embed_out, transformers calls it lm_head."""
    model = build("pythia")
    model.save_pretrained(tmp_path / "step0")
    tensors = load_file(tmp_path / "step0/model.safetensors")
    head = tensors.pop("lm_head.weight", None)
    head = tensors.pop("embed_out.weight") if head is None else head
    save_file(tensors | {"embed_out.weight": head * 3}, tmp_path / "step0/model.safetensors", {"format": "pt"})
    model.save_pretrained(tmp_path / "now")
    state = torch.random.get_rng_state()
    found = resolve_initial_std("step0:step0", model, Checkpoint(repo=tmp_path / "now")).std
    assert found["lm_head.weight"] == pytest.approx(3 * float(head.std(correction=0)), rel=1e-5)
    assert torch.equal(state, torch.random.get_rng_state())
    del tensors["gpt_neox.embed_in.weight"]  # what transformers would draw anew is missing, not measured
    save_file(tensors | {"embed_out.weight": head}, tmp_path / "step0/model.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"nothing of 1 of the model's \d+ parameters: gpt_neox\.embed_in\.weight"
    ):
        resolve_initial_std("step0:step0", model, Checkpoint(repo=tmp_path / "now"))


def test_step_0_that_is_not_one_is_refused(ladder: Any) -> None:
    folder, _ = ladder
    checkpoint = Checkpoint(repo=folder / "step9")
    with pytest.raises(CheckpointError, match="REVISION must be a folder too"):
        resolve_initial_std("step0:step1", build("olmo2"), checkpoint)
    with pytest.raises(CheckpointError, match=r"has shape \(48, 32\) in .* and \(50, 32\) in the model"):
        resolve_initial_std("step0:step0", build("olmo2", vocab_size=50), checkpoint)
    (folder / "step0/model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="are damaged"):
        resolve_initial_std("step0:step0", build("olmo2"), checkpoint)
