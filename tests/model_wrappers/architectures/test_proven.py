"""Every architecture of the list, request by request against lm-eval's own ``hf`` model, and those that must fall back."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
import transformers

from model_wrappers.architectures.proven import PROVEN, why_unproven
from model_wrappers.scoring.attention import Unproven
from model_wrappers.scoring.score import ScoringPlan, score
from model_wrappers.scoring.tokens import encode

CONTEXT = 256
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "head_dim": 8}
GROUPED = {"num_key_value_heads": 2}
OWN = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT},
    "gpt_neox": SIZES,
    "olmo": SIZES,
    "phi": SIZES,
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "mistral": SIZES | GROUPED | {"sliding_window": 20},
    "olmo3": SIZES | GROUPED | {"sliding_window": 20},
    "phi3": SIZES | GROUPED | {"original_max_position_embeddings": CONTEXT},
    "qwen2": SIZES | GROUPED | {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 2},
}


def tiny(kind: str, tokenizer, **more):
    """Return a random model of an architecture, its weights large enough that attention matters."""
    common = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
    context = {} if kind == "gpt2" else {"max_position_embeddings": CONTEXT}
    config = transformers.AutoConfig.for_model(kind, **(common | context | OWN.get(kind, SIZES | GROUPED) | more))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.3)
    return model


def requests() -> list[tuple[str, str]]:
    """Choices of one context, trailing spaces, empty contexts, texts longer than the context, repeated requests."""
    few = "The quick brown fox jumps over the lazy dog. Question: what is 2 + 2?\nAnswer: 4\n\n" * 2
    pairs = [
        (f"{few}Question: {question}?\nAnswer:{' ' * (i % 3)}", f" {answer}")
        for i, question in enumerate(("Give three tips", "How do I boil an egg", "what is 5 + 7", "Eat"))
        for answer in ("4", "walk", "Put it into boiling water", "yes, 12")
    ]
    pairs += [("", "The fox"), ("", "d"), (few * 6, " yes"), (few * 6, " " + "fox jumps over " * 8)]
    return [*pairs, pairs[0], pairs[3]]


def of_lm_eval(model, tokenizer, pairs: list[tuple[str, str]]):
    """Return lm-eval's model and its scores."""
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=CONTEXT, device="cpu")
    return lm, lm.loglikelihood([SimpleNamespace(args=pair) for pair in pairs], disable_tqdm=True)


@pytest.mark.parametrize("kind", sorted(PROVEN))
@pytest.mark.parametrize("size", [4096, 300])
def test_scores_are_lm_evals(kind, size, tokenizer):
    model, pairs = tiny(kind, tokenizer), requests()
    assert why_unproven(model) is None
    lm, expected = of_lm_eval(model, tokenizer, pairs)
    found = score(model, ScoringPlan(encode(lm, pairs), CONTEXT), torch.device("cpu"), size)
    assert max(abs(a - b) for (a, _), (b, _) in zip(found, expected, strict=True)) <= 1e-4
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_a_window_matters_here(tokenizer):
    """Else the test of Mistral's window would prove nothing."""
    pairs = requests()
    narrow, wide = (tiny("mistral", tokenizer, sliding_window=w) for w in (20, None))
    assert why_unproven(narrow) is None
    one, other = (of_lm_eval(model, tokenizer, pairs)[1] for model in (narrow, wide))
    assert max(abs(a - b) for (a, _), (b, _) in zip(one, other, strict=True)) > 0.1


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gemma2", {}),
        ("bloom", {"n_layer": 2, "n_head": 2}),
        ("mamba", {}),
        ("falcon", {"alibi": True}),
        ("cohere", {}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}),
    ],
)
def test_what_is_not_proven_falls_back(kind, more, tokenizer):
    assert why_unproven(tiny(kind, tokenizer, **more)) is not None


def test_soft_capping_is_noticed_by_the_attention_itself(tokenizer):
    """Were Gemma 2 put on the list by mistake, it would still not be scored wrongly."""
    model, pairs = tiny("gemma2", tokenizer), requests()
    lm, _ = of_lm_eval(model, tokenizer, pairs[:2])
    with pytest.raises(Unproven, match="softcap"):
        score(model, ScoringPlan(encode(lm, pairs), CONTEXT), torch.device("cpu"), 4096)


def test_tokens_are_lm_evals(tokenizer, caplog):
    """Also with a prefix token that the tokenizer adds, and for texts that begin with it."""
    caplog.set_level(logging.ERROR)
    model, pairs = tiny("llama", tokenizer), [*requests(), ("<|endoftext|>Eat", " well"), (" a ", "b")]
    lm, _ = of_lm_eval(model, tokenizer, pairs[:1])
    for add_bos in (None, False):
        lm.add_bos_token = add_bos
        for request, (context, continuation) in zip(encode(lm, pairs), pairs, strict=True):
            prefix = [lm.prefix_token_id], lm.tok_encode(continuation, add_special_tokens=False)
            first, rest = lm._encode_pair(context, continuation) if context else prefix
            assert request.tokens.tolist() == first + rest
            assert request.scored == len(rest)
