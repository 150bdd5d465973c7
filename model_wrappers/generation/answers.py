"""Generates a model's answers with lm-eval's own loop or with vLLM, and records for the results how this was done."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from typing import TYPE_CHECKING, Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from model_wrappers.errors import ConfigError
from model_wrappers.generation.prepare import Preparation
from model_wrappers.generation.served import Completion, Weights, complete, sampling, serving
from model_wrappers.generators import isolated_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lm_eval.api.instance import Instance

    from model_wrappers.generation.options import GenerateOptions

__all__ = ["AnswerGenerator"]


class AnswerGenerator:
    """Generates the answers of one model.

    Args:
        lm: the model, an lm-eval ``HFLM``.
        options: the back end and its settings.
    """

    def __init__(self, lm: Any, options: GenerateOptions) -> None:
        self._lm, self.options = lm, options
        self._prepared: Preparation | None = None
        self._about: dict[str, Any] = {}

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt together with its answer; 0 before the first request."""
        return 0 if self._prepared is None else self._prepared.longest

    def generate(
        self,
        requests: Sequence[Instance],
        taught: str | None,
        host: Callable[[list[Instance]], list[str]],
        folder: str | None,
        *,
        trust_remote_code: bool = False,
    ) -> list[str]:
        """Return one continuation per request, in order.

        Args:
            requests: lm-eval's requests of the kind ``generate_until``.
            taught: template that the weights were trained with; None if they were not trained by us.
            host: lm-eval's own generation.
            folder: folder with the model's weights; None if the weights are only in memory.
            trust_remote_code: allow code that comes with a repository to run.

        Raises:
            ConfigError: there is no template, an argument has an impossible value, or vLLM is not installed.
            ServerError: vLLM did not start or did not answer.
        """
        if self._prepared is None:
            lm = self._lm
            self._prepared = Preparation(
                lm.tokenizer, lambda text: len(lm.tok_encode(text)), lm.max_length, lm.max_gen_toks
            )
        prepared = self._prepared.run(requests, taught)
        self._gather()
        self._prepared.warn()
        if self.options.generate_backend == "hf":
            return self._by_host(prepared, host)
        return self._by_vllm(prepared, folder, trust_remote_code=trust_remote_code)

    def describe(self) -> dict[str, Any]:
        """Return how answers were generated, as JSON data; empty if lm-eval generated them without our templates."""
        found = {} if self._prepared is None else self._prepared.describe()
        if not found and not self._about:
            return {}
        return {"backend": self.options.generate_backend} | self._about | found

    def _gather(self) -> None:
        """Add up the counts of all processes."""
        if self._lm.world_size > 1:
            import torch

            assert self._prepared is not None
            seen: list[Any] = [None] * self._lm.world_size
            torch.distributed.all_gather_object(seen, self._prepared.counts())
            self._prepared.add_counts(seen)

    def _by_host(self, requests: list[Instance], host: Callable[[list[Instance]], list[str]]) -> list[str]:
        """Generate with lm-eval. Sampling with our seed seeds the global generators, because transformers has no argument."""
        seeds = [r.args[1]["seed"] for r in requests if "seed" in r.args[1]]
        ours = [r for r in requests if type(r.args[0]) is not str and r.args[1].get("do_sample")]
        unseeded = [_with(r, {k: v for k, v in r.args[1].items() if k != "seed"}) for r in requests]
        if not seeds and not ours:
            return host(unseeded)
        with isolated_generators(int(seeds[0]) if seeds else _ambient_seed()):
            return host(unseeded)

    def _by_vllm(self, requests: list[Instance], folder: str | None, *, trust_remote_code: bool) -> list[str]:
        lm = self._lm
        if not isinstance(lm.think_end_token, str | None):
            raise ConfigError(
                f"think_end_token={lm.think_end_token!r}: with generate_backend=vllm it must be text; give the token's text"
            )
        completions = [self._completion(request) for request in requests]
        with contextlib.ExitStack() as stack:
            if self.options.generate_url is None:
                stack.enter_context(_model_on_cpu(lm))
            place = stack.enter_context(self._saved()) if folder is None else folder
            weights = Weights(
                location=place,
                revision=None,
                dtype=str(lm.model.dtype).removeprefix("torch."),
                context=lm.max_length,
                device=str(lm.device),
                trust_remote_code=trust_remote_code,
            )
            endpoint, self._about = stack.enter_context(serving(self.options, weights))
            texts = complete(endpoint, completions, lm.tok_decode)
        return [
            postprocess_generated_text(text, c.parameters["stop"], lm.think_end_token)
            for text, c in zip(texts, completions, strict=True)
        ]

    def _completion(self, request: Instance) -> Completion:
        lm = self._lm
        text, given = request.args
        kwargs: dict[str, Any] = dict(normalize_gen_kwargs(given, lm.max_gen_toks))
        kwargs["until"] = handle_stop_sequences(
            kwargs["until"], lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
        )
        room = lm.max_length - kwargs["max_gen_toks"]
        if room <= 0:
            raise ConfigError(
                f"max_gen_toks={kwargs['max_gen_toks']}: leaves no room for a prompt in a context of {lm.max_length} tokens; "
                "give less"
            )
        ids, _ = lm.tok_batch_encode([text], left_truncate_len=room, truncation=lm.truncation)
        seed = int(kwargs.pop("seed", _ambient_seed())) + int(request.doc_id or 0)
        return Completion(ids[0].tolist(), sampling(kwargs, _defaults(lm.model), seed))

    @contextlib.contextmanager
    def _saved(self) -> Iterator[str]:
        """Yield a folder with a copy of the model in memory; an empty name if a running server has the weights already."""
        if self.options.generate_url is not None:
            yield ""
            return
        with tempfile.TemporaryDirectory(prefix="overtrain-weights-") as folder:
            self._lm.model.save_pretrained(folder, safe_serialization=True)
            self._lm.tokenizer.save_pretrained(folder)
            yield folder


def _with(request: Instance, kwargs: dict[str, Any]) -> Instance:
    return dataclasses.replace(request, arguments=(request.args[0], kwargs))


def _ambient_seed() -> int:
    """Return the seed that lm-eval has given to torch."""
    import torch

    return int(torch.initial_seed() % 2**31)


def _defaults(model: Any) -> dict[str, Any]:
    """Return the sampling parameters that transformers would use where a request names none."""
    from transformers import GenerationConfig

    common: dict[str, Any] = getattr(GenerationConfig, "_get_default_generation_params", dict)()
    own = model.generation_config.to_dict() if getattr(model, "generation_config", None) is not None else {}
    return common | {name: value for name, value in own.items() if value is not None}


@contextlib.contextmanager
def _model_on_cpu(lm: Any) -> Iterator[None]:
    """Move the model to the CPU inside the block, so that the server can use the accelerator.

    A model that is spread over several devices stays where it is.
    """
    import torch

    if lm.device.type != "cuda" or getattr(lm.model, "hf_device_map", None):
        yield
        return
    lm.model.to("cpu")
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        lm.model.to(lm.device)
