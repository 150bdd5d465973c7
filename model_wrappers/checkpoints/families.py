"""Published facts about model families: the tokens of each revision, and the initial distribution of the weights.

There are no defaults: repositories and revisions that no entry names are unknown.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FAMILIES", "Family", "family_of", "tokens_in_name"]

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_TOKENS = re.compile(r"(?:^|[-_./])tokens[-_]?(\d+(?:\.\d+)?)([KMBT]?)(?=$|[-_./])", re.IGNORECASE)
_LATER_STAGE = re.compile(r"(?:^|[-_./])stage(?!1(?!\d))\d+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Family:
    """Published facts about one family of models.

    Attributes:
        name: the name that users type in ``family:NAME``.
        repos: regular expression that matches the whole repository name on the hub; case does not matter.
        tokens: revision -> tokens seen, or None for a revision outside the table.
        tokens_source: source of ``tokens``.
        initial_std: (parameter name, shape, config) -> standard deviation at initialisation; 0 for parameters that start
            constant; None for a name that the family does not have.
        std_source: source of ``initial_std``, or the known facts if there is no table.
    """

    name: str
    repos: str
    tokens: Callable[[str], int | None] | None = None
    tokens_source: str = ""
    initial_std: Callable[[str, tuple[int, ...], Any], float | None] | None = None
    std_source: str = ""


def family_of(repo: str) -> Family | None:
    """Return the family that the hub's repository ``repo`` belongs to, or None.

    >>> family_of("EleutherAI/pythia-160m-deduped").name
    'pythia'
    >>> family_of("someone/pythia-160m") is None
    True
    """
    return next((f for f in FAMILIES.values() if re.fullmatch(f.repos, repo, re.IGNORECASE)), None)


def tokens_in_name(name: str) -> int | None:
    """Return the number of tokens in the name of a revision or folder, or None.

    In a training with several stages, names of later stages (``stage2-...-tokens50B``) count tokens from the start of the
    stage. They do not give the total number of tokens, so the result is None.

    >>> tokens_in_name("step738000-tokens3094B"), tokens_in_name("stage1-step19000-tokens80B")
    (3094000000000, 80000000000)
    >>> tokens_in_name("tokens0.5M"), tokens_in_name("stage2-ingredient1-step11931-tokens50B")
    (500000, None)
    """
    found = _TOKENS.search(name)
    if found is None or _LATER_STAGE.search(name):
        return None
    tokens = Decimal(found[1]) * UNITS[found[2].upper()]
    return int(tokens) if tokens == int(tokens) else None


def _pythia_tokens(revision: str) -> int | None:
    found = re.fullmatch(r"step(\d+)", revision)
    return int(found[1]) * 1024 * 2048 if found and int(found[1]) <= 143_000 else None


def _amber_tokens(revision: str) -> int | None:
    """Return the tokens of a revision of Amber.

    Chunk k is saved after its last step, so ``ckpt_k`` has seen k + 1 chunks of 1,706,976 rows of 2,049 tokens.

    Deviation: Table 1 of the paper gives 0.12T for ``ckpt_040`` and 1.1T for ``ckpt_358``; the published chunks give 0.14T
    and 1.26T. The paper's ``ckpt_410`` is beyond the last published chunk, so its tokens are unknown.
    """
    found = re.fullmatch(r"ckpt_(\d{3})", revision)
    return (int(found[1]) + 1) * 1_706_976 * 2_049 if found and int(found[1]) < 360 else None


def _olmo_std(name: str, shape: tuple[int, ...], config: Any) -> float | None:
    part, layer = _part(name)
    if part in {"embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}:
        return 1 / math.sqrt(config.hidden_size)
    if part == "o_proj":
        return 1 / math.sqrt(2 * config.hidden_size * (layer + 1))
    if part == "down_proj":
        return 1 / math.sqrt(2 * shape[1] * (layer + 1))  # (out_features, in_features)
    return None


def _olmo2_std(name: str, shape: tuple[int, ...], config: Any) -> float | None:  # noqa: ARG001
    part, _ = _part(name)
    if part in {"norm", "q_norm", "k_norm", "post_attention_layernorm", "post_feedforward_layernorm"}:
        return 0.0
    known = {"embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    return 0.02 if part in known else None


def _pythia_std(name: str, shape: tuple[int, ...], config: Any) -> float | None:  # noqa: ARG001
    part, _ = _part(name)
    if name.endswith(".bias") or part in {"input_layernorm", "post_attention_layernorm", "final_layer_norm"}:
        return 0.0
    if part in {"embed_in", "embed_out", "lm_head", "query_key_value", "dense_h_to_4h"}:
        return math.sqrt(2 / (5 * config.hidden_size))
    if part in {"dense", "dense_4h_to_h"}:
        return 2 / (config.num_hidden_layers * math.sqrt(config.hidden_size))
    return None


def _part(name: str) -> tuple[str, int]:
    """Return the module that owns a parameter and its layer (0 outside the layers): ``('q_proj', 3)``."""
    layer = re.search(r"\.layers\.(\d+)\.", name)
    return name.split(".")[-2] if "." in name else name, int(layer[1]) if layer else 0


FAMILIES = {
    f.name: f
    for f in (
        Family(
            name="olmo",
            repos=r"allenai/OLMo-[17]B-hf",
            initial_std=_olmo_std,
            std_source=(
                "init_fn: mitchell (https://github.com/allenai/OLMo/blob/main/configs/official/OLMo-1B.yaml), defined "
                "in https://github.com/allenai/OLMo/blob/main/olmo/model.py (reset_parameters)"
            ),
        ),
        Family(
            name="olmo2",
            repos=r"allenai/OLMo-2-1124-(7|13)B",
            initial_std=_olmo2_std,
            std_source=(
                "init_fn: normal, init_std: 0.02 (https://github.com/allenai/OLMo/blob/main/configs/official-1124/"
                "OLMo2-7B-stage1.yaml; every parameter: https://arxiv.org/abs/2501.00656)"
            ),
        ),
        Family(
            name="pythia",
            repos=r"EleutherAI/pythia-\d+(\.\d+)?[mb](-deduped)?(-seed\d+)?",
            tokens=_pythia_tokens,
            tokens_source="2,097,152 tokens a step (1,024 rows of 2,048): https://github.com/EleutherAI/pythia",
            initial_std=_pythia_std,
            std_source=(
                "init_method: small_init, output_layer_init_method: wang_init "
                "(https://github.com/EleutherAI/pythia/tree/main/models), defined in "
                "https://github.com/EleutherAI/gpt-neox/blob/main/megatron/model/init_functions.py"
            ),
        ),
        Family(
            name="amber",
            repos=r"LLM360/Amber",
            tokens=_amber_tokens,
            tokens_source=(
                "360 equal chunks, 1,259.13B tokens (https://huggingface.co/LLM360/Amber, "
                "https://github.com/LLM360/amber-train/blob/main/main.py)"
            ),
            std_source=(
                "no table: its training script takes LLaMA-7B's configuration, so 0.02 everywhere is likely but not "
                "established, https://github.com/LLM360/amber-train/blob/main/main.py"
            ),
        ),
    )
}
