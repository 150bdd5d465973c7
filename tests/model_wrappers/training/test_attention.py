"""Attention by rows against transformers' own, architecture by architecture."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from model_wrappers.training.attention import NAME, ROW_ENDS, attending_by_rows, can_attend_by_rows

LENGTHS = [5, 1, 9, 3]
# transformers 5.23 renamed the method and warns of the old name
RECOMPUTE = next(
    name
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    if hasattr(PreTrainedModel, name)
)

SMALL = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48}


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def batch():
    ids = torch.randint(2, 250, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    return ids, {"position_ids": positions, "use_cache": False}


def ends():
    return {ROW_ENDS: torch.tensor([0, *LENGTHS]).cumsum(0)}


def gradients(model, ids, **given):
    model.zero_grad()
    logits = model(input_ids=ids, **given).logits
    logits.square().sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def check(model, ids, given):
    expected, expected_gradients = gradients(model, ids, **given)
    with attending_by_rows(model):
        found, found_gradients = gradients(model, ids, **given, **ends())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found_gradients.keys() == expected_gradients.keys()
    for name, value in expected_gradients.items():
        assert float((found_gradients[name] - value).norm()) <= 1e-4 * float(value.norm()) + 1e-3, name


@pytest.mark.parametrize("architecture", ["olmo", "olmo2", "llama", "gpt_neox"])
def test_logits_and_gradients_are_those_of_the_masked_attention(make_model, architecture):
    model = load(make_model(architecture))
    assert can_attend_by_rows(model, 9)
    before = model.config._attn_implementation
    check(model, *batch())
    assert model.config._attn_implementation == before != NAME


def test_grouped_heads():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        **SMALL, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3
    )
    check(Qwen2ForCausalLM(config).eval(), *batch())


def test_recomputed_activations(make_model):
    """Checkpointing calls the attention again in the backward, with the borders of the forward it belongs to."""
    model = load(make_model("olmo"))
    ids, given = batch()
    _, expected = gradients(model, ids, **given)
    model.train()
    getattr(model, RECOMPUTE)()
    with attending_by_rows(model):
        logits = model(input_ids=ids, **given, **ends()).logits
        other = torch.tensor([0, 18])  # another forward comes before this one's backward
        model(input_ids=ids, position_ids=torch.arange(18)[None], use_cache=False, **{ROW_ENDS: other})
        model.zero_grad()
        logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert float((parameter.grad - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()) + 1e-3, name


def test_a_window_shorter_than_a_row_is_refused():
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(**SMALL, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, sliding_window=8)
    model = MistralForCausalLM(config).eval()
    assert can_attend_by_rows(model, 8)
    assert not can_attend_by_rows(model, 9)
    ids, given = batch()
    with attending_by_rows(model), pytest.raises(ValueError, match="sliding window of 8"):
        model(input_ids=ids, **given, **ends())


def test_a_batch_without_borders_or_with_a_mask_is_refused(make_model):
    model = load(make_model("olmo"))
    ids, given = batch()
    with attending_by_rows(model):
        with pytest.raises(ValueError, match="does not hand cu_seq_lens_q to its attention"):
            model(input_ids=ids, **given)
        with pytest.raises(ValueError, match="other keys"):
            model(input_ids=ids, **given, **{ROW_ENDS: torch.tensor([0, 4])})


def test_unproven_architectures_keep_their_attention(make_model):
    model = load(make_model("olmo"))
    model.config.model_type = "unheard_of"
    assert not can_attend_by_rows(model, 9)
