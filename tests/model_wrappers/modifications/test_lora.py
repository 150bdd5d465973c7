"""LoRA against the plain product of its factors, and its own arguments."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import ConfigError
from model_wrappers.modifications.lora import Lora


@pytest.fixture
def tuned(tmp_path, make_model, tokenizer):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{a} + 1 =", "completion": f" {a + 1}"}) + "\n" for a in range(12)))
    folder = make_model("olmo")

    def tuned(**fields):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        common = {"data": str(data), "learning_rate": 1e-2, "max_steps": 3, "train_batch_size": 4, "lora_rank": 3}
        after = Lora.parse(common | fields).apply(model, tokenizer, Checkpoint(repo=folder)).model
        return before, {n: p.detach() for n, p in after.named_parameters()}

    return tuned


def test_the_update_has_the_rank_asked_for_and_touches_linear_layers_alone(tuned):
    before, after = tuned()
    assert before.keys() == after.keys()
    for name, start in before.items():
        update = (after[name] - start).double()
        if "proj" in name:
            values = torch.linalg.svdvals(update)
            assert values[0] > 0
            assert values[3] < 1e-4 * values[0], name
        else:
            assert not update.any(), name


def test_targets_can_be_named(tuned):
    before, after = tuned(lora_targets="q_proj+v_proj")
    changed = {n.split(".")[-2] for n in before if (before[n] != after[n]).any()}
    assert changed == {"q_proj", "v_proj"}


def test_unknown_targets_name_those_there_are(tuned):
    with pytest.raises(ConfigError, match="gate_proj"):
        tuned(lora_targets="query")


def test_l2_to_init_with_lora_is_refused(tuned):
    with pytest.raises(ConfigError, match="l2_to_init"):
        tuned(l2_to_init=0.1)
