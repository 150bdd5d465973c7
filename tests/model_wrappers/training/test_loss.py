"""The chunked loss against torch's cross-entropy, and the layer whose weight it multiplies with."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from model_wrappers.architectures.proven import output_layer
from model_wrappers.training.loss import handing_out_states, target_loss


def problem(dtype=torch.float64, rows=7, width=5, vocabulary=11):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(rows, width, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=dtype, requires_grad=True)
    return states, weight, torch.randint(vocabulary, (rows,), generator=generator)


def oracle(states, weight, targets, scale=1.0):
    return functional.cross_entropy(states @ weight.T, targets, reduction="sum") * scale


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_loss_and_gradients_are_torchs(chunk):
    states, weight, targets = problem()
    loss = target_loss(states, weight, targets, scale=0.3, chunk=chunk)
    expected = oracle(states, weight, targets, 0.3)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-13)
    for ours, theirs in zip(
        torch.autograd.grad(loss, (states, weight)), torch.autograd.grad(expected, (states, weight)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    states, weight, targets = problem()
    assert torch.autograd.gradcheck(lambda s, w: 1.7 * target_loss(s, w, targets, scale=0.5, chunk=3), (states, weight))


def test_a_frozen_weight_gets_no_gradient_and_the_states_keep_theirs():
    states, weight, targets = problem()
    expected = torch.autograd.grad(oracle(states, weight, targets), states)[0]
    weight.requires_grad_(False)
    target_loss(states, weight, targets, chunk=2).backward()
    assert weight.grad is None
    torch.testing.assert_close(states.grad, expected)


def test_a_tied_weight_sums_both_gradients():
    _, weight, targets = problem()
    ids = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    target_loss(functional.embedding(ids, weight).tanh(), weight, targets, chunk=2).backward()
    ours, weight.grad = weight.grad, None
    oracle(functional.embedding(ids, weight).tanh(), weight, targets).backward()
    torch.testing.assert_close(ours, weight.grad)


def test_extreme_logits_stay_finite():
    states = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss = target_loss(states, weight, torch.tensor([1, 1]))
    loss.backward()
    assert loss.item() == 2e4
    assert states.grad.tolist() == [[2.0], [0.0]]


def test_bfloat16_products_with_float32_sums():
    states, weight, targets = problem(torch.float32, rows=64, width=32, vocabulary=200)
    with torch.autocast("cpu", torch.bfloat16):  # what is asked for counts, not the surroundings
        loss = target_loss(states, weight, targets, chunk=10, dtype=torch.bfloat16)
        exact = target_loss(states, weight, targets, chunk=10)
    with torch.autocast("cpu", torch.bfloat16):
        logits = functional.linear(states, weight)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        functional.cross_entropy(logits.float(), targets, reduction="sum").item(), rel=1e-6
    )
    assert exact.item() == pytest.approx(oracle(states, weight, targets).item(), rel=1e-6)
    precise = torch.autograd.grad(exact, (states, weight))
    for ours, theirs in zip(torch.autograd.grad(loss, (states, weight)), precise, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < float((ours - theirs).norm() / theirs.norm()) < 0.02


def test_no_tensor_of_all_logits_is_made():
    seen = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            seen.extend(t.numel() for t in (out if isinstance(out, (tuple, list)) else [out]) if hasattr(t, "numel"))
            return out

    states, weight, targets = problem(torch.float32, rows=600, width=4, vocabulary=1000)
    with Sizes():
        target_loss(states, weight, targets, chunk=50).backward()
    assert max(seen) == 50 * 1000


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("architecture", ["olmo", "llama", "gpt_neox"])
def test_states_times_the_weight_are_the_logits_and_nothing_stays_behind(make_model, architecture):
    model, ids = load(make_model(architecture)), torch.arange(2, 12)[None]
    layer, names = output_layer(model), list(model.state_dict())
    with torch.no_grad():
        before = model(input_ids=ids).logits
        with pytest.raises(KeyError), handing_out_states(layer):
            states = model(input_ids=ids).logits
            assert list(model.state_dict()) == names
            raise KeyError
        torch.testing.assert_close(states @ layer.weight.T, before)
        assert torch.equal(model(input_ids=ids).logits, before)


def test_layers_that_do_more_than_multiply_are_left_alone(make_model):
    class Doubled(torch.nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    model = load(make_model("olmo"))
    width, vocabulary = model.config.hidden_size, model.config.vocab_size
    assert output_layer(model) is model.lm_head
    for other in (torch.nn.Linear(width, vocabulary, bias=True), Doubled(width, vocabulary, bias=False)):
        model.lm_head = other
        assert output_layer(model) is None
    model.lm_head = torch.nn.Linear(width, vocabulary, bias=False)
    hook = model.lm_head.register_forward_hook(lambda *_: None)
    assert output_layer(model) is None
    hook.remove()
    model.config.logit_scale = 0.5
    assert output_layer(model) is None
    model.config.logit_scale = None
    model.config.model_type = "unheard_of"
    assert output_layer(model) is None
