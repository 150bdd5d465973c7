"""The model of a ladder, and the standard deviations of its initialisation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from overtrain.pretrain.recipe import Recipe

__all__ = ["build", "initial_std", "initialise"]

_RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight")


def build(recipe: Recipe, end_of_text: int) -> PreTrainedModel:
    """Return an OLMo model with the recipe's shape, in float32. `initialise` replaces transformers' initial weights."""
    from transformers import OlmoConfig, OlmoForCausalLM

    config = OlmoConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=False,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        pad_token_id=None,  # a padding index would freeze its row of the embedding, here the row of the end of text
    )
    return OlmoForCausalLM(config)


def initial_std(model: PreTrainedModel, recipe: Recipe) -> dict[str, float]:
    """Return the initial standard deviation of each parameter of ``model``.

    The input embedding has ``recipe.embedding_std``. Other matrices have 1/sqrt(fan_in). Matrices that write into the residual
    stream (attention output, MLP down) have an additional factor 1/sqrt(2 layers). Norm gains and biases start constant, so
    their deviation is 0.
    """
    embedding = model.get_input_embeddings().weight
    deviations: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter is embedding:
            deviations[name] = recipe.embedding_std
        elif parameter.ndim < 2:
            deviations[name] = 0.0
        else:
            scale = math.sqrt(2 * recipe.layers) if name.endswith(_RESIDUAL_OUTPUTS) else 1.0
            deviations[name] = 1 / (math.sqrt(parameter.shape[1]) * scale)
    return deviations


def initialise(model: PreTrainedModel, deviations: Mapping[str, float], seed: int) -> None:
    """Draw every parameter with a deviation above 0 from N(0, deviation^2), in place, in the order of the model.

    The global random generators are not used.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if deviations[name] > 0:
                parameter.normal_(0.0, deviations[name], generator=generator)
