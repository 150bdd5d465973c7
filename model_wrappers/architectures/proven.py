"""The architectures on which scoring by prefixes was shown to give the scores of lm-eval's own path.

A test compares every architecture of this list with ``HFLM``, request by request. A model of another architecture, or with a
setting that was not tested, is scored by lm-eval's own path. So scores are never silently wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["PROVEN", "output_layer", "why_unproven"]

PROVEN = frozenset(
    {
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "olmo",
        "olmo2",
        "olmo3",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "starcoder2",
    }
)
"""``model_type`` of each."""

_PLAIN = {
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
    "alibi": False,
    "logit_scale": None,
    "logits_scaling": None,
    "is_encoder_decoder": False,
    "quantization_config": None,
    "prefix_length": None,
    "cross_attention_hidden_size": None,
    "add_cross_attention": False,
    "reorder_and_upcast_attn": False,
    "scale_attn_by_inverse_layer_idx": False,
}
"""Settings that can change logits or attention, each with the value at which it changes nothing."""

_PLAIN_ROPE = {"default", "linear", "llama3", "proportional"}
"""Rotary scalings whose angles depend only on the position. ``dynamic``, ``longrope`` and ``yarn`` may depend on the length."""


def why_unproven(model: Any) -> str | None:
    """Return why ``model`` must be scored by lm-eval's own path; None if scoring by prefixes is proven for it."""
    config = getattr(model, "config", None)
    kind = str(getattr(config, "model_type", None))
    if kind not in PROVEN:
        return f"architecture {kind!r} has not been proven"
    for name, plain in _PLAIN.items():
        value = getattr(config, name, plain)
        if value is not None and value != plain:
            return f"{name}={value!r} has not been proven"
    if "custom" in type(model).__module__ or not type(model).__module__.startswith("transformers."):
        return f"{type(model).__name__} is not of transformers"
    if model.get_output_embeddings() is None or model.base_model is model:
        return "it has no output layer of its own"
    if any(parameter.is_meta for parameter in model.parameters()) or getattr(model, "hf_device_map", None):
        return "its weights are spread over devices"
    rope = _rope(config)
    if rope not in _PLAIN_ROPE:
        return f"rotary scaling {rope!r} has not been proven"
    return None


def _rope(config: Any) -> str:
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return str(found.get("rope_type") or found.get("type") or "default")


def output_layer(model: Any) -> torch.nn.Linear | None:
    """Return the output layer, if its weight times a state gives exactly the logits of the state; else None.

    Args:
        model: a model of transformers, without a wrapper.
    """
    import torch

    if why_unproven(model) is not None:
        return None
    layer: Any = model.get_output_embeddings()
    # a subclass (quantised, with adapters) or a hook may change the product
    hooked = any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, "forward" in vars(layer)))
    plain = type(layer) is torch.nn.Linear and getattr(layer, "bias", None) is None
    return layer if plain and not hooked else None
