"""Answers from vLLM: a separate process serves the weights, and we ask it through its OpenAI-compatible API.

Prompts are sent as token ids. They are tokenised and cut as in lm-eval's own model, so both back ends continue the same
tokens. Greedy answers can still differ where two tokens are almost equally likely, because the kernels round differently.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from model_wrappers.errors import ConfigError, ServerError
from model_wrappers.serving.client import Endpoint, ask, check, fetch, run_anywhere
from model_wrappers.serving.server import VllmServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from model_wrappers.generation.options import GenerateOptions
    from model_wrappers.serving.client import Reply

__all__ = ["Completion", "Weights", "complete", "sampling", "serving"]

_PASSED_ON = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
_NEVER_SAID = frozenset({"do_sample", "temperature", "until", "max_gen_toks", "use_cache"})


class Completion(NamedTuple):
    """One prompt to continue.

    Attributes:
        tokens: token ids of the prompt.
        parameters: sampling parameters, under vLLM's names.
    """

    tokens: list[int]
    parameters: dict[str, Any]


class Weights(NamedTuple):
    """The weights to serve.

    Attributes:
        location: a folder, or a hub repository.
        revision: revision of a repository.
        dtype: dtype of the weights, e.g. ``float32``.
        context: context length of the model in tokens.
        device: device of our own copy of the model: ``cpu``, ``cuda:0``, ...
        trust_remote_code: allow code that comes with a repository to run.
    """

    location: str
    revision: str | None
    dtype: str
    context: int
    device: str
    trust_remote_code: bool = False


def sampling(arguments: Mapping[str, Any], defaults: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return lm-eval's generation arguments under vLLM's names.

    Args:
        arguments: result of lm-eval's ``normalize_gen_kwargs``, with stop texts.
        defaults: transformers' defaults for sampling parameters that ``arguments`` do not contain, e.g. ``top_k``.
        seed: seed for this prompt.

    Raises:
        ConfigError: vLLM has no counterpart of an argument.
    """
    unknown = sorted(set(arguments) - _NEVER_SAID - set(_PASSED_ON))
    if unknown:
        raise ConfigError(
            f"generate_backend=vllm: no counterpart of {', '.join(map(repr, unknown))} (allowed: do_sample, temperature, "
            f"{', '.join(_PASSED_ON)}, max_gen_toks, until, seed); leave it out or generate with generate_backend=hf"
        )
    sampled = bool(arguments.get("do_sample")) and float(arguments.get("temperature", 0.0)) > 0
    parameters = {name: arguments[name] for name in _PASSED_ON if name in arguments}
    if sampled:
        parameters = {k: v for k, v in defaults.items() if k in _PASSED_ON and v is not None} | parameters
    return parameters | {
        "max_tokens": int(arguments["max_gen_toks"]),
        "temperature": float(arguments["temperature"]) if sampled else 0.0,
        "stop": list(arguments["until"]),
        "seed": seed,
    }


def complete(endpoint: Endpoint, completions: Sequence[Completion], decode: Callable[[list[int]], str]) -> list[str]:
    """Return the continuation of every prompt, in order.

    The server returns token ids as well as text. We decode the ids, because the texts differ if the last token ends inside a
    character: vLLM omits the incomplete character, and lm-eval writes a replacement character.

    Args:
        endpoint: the server.
        completions: the prompts.
        decode: turns token ids into text as lm-eval does.

    Raises:
        ServerError: the server has gone, or it did not answer a prompt.
    """
    texts: dict[int, str] = {}
    errors: list[str] = []

    def note(number: int, answer: Reply) -> None:
        try:
            choice = (answer.body or {})["choices"][0]
            ids = choice.get("token_ids")
            texts[number] = str(choice["text"]) if ids is None else decode(list(ids))
        except (KeyError, IndexError, TypeError, AttributeError):
            errors.append(answer.error or f"an answer without text: {str(answer.body)[:200]}")

    bodies = (
        (number, {"model": endpoint.model, "prompt": c.tokens, "return_token_ids": True, **c.parameters})
        for number, c in enumerate(completions)
    )
    ask(endpoint, "/completions", bodies, note)
    if errors:
        raise ServerError(
            f"the server at {endpoint.url} left {len(errors)} of {len(completions)} prompts without an answer, the first: "
            f"{errors[0]}; see its log, and run again"
        )
    return [texts[number] for number in range(len(completions))]


@contextlib.contextmanager
def serving(options: GenerateOptions, weights: Weights) -> Iterator[tuple[Endpoint, dict[str, Any]]]:
    """Yield an endpoint that serves the weights, and a description of its server for the results.

    Raises:
        ConfigError: vLLM is not installed.
        ServerError: the server did not start, or the given server serves no model.
    """
    if options.generate_url is not None:
        endpoint = _running(options.generate_url)
        yield endpoint, {"url": endpoint.url, "model": endpoint.model} | _version(endpoint)
        return
    with tempfile.TemporaryDirectory(prefix="overtrain-vllm-") as folder:
        server = VllmServer(
            weights.location,
            python=options.vllm_python,
            dtype=weights.dtype,
            max_model_len=weights.context,
            revision=weights.revision,
            extra=["--trust-remote-code"] if weights.trust_remote_code else [],
            environment=_visible(weights.device),
            log=Path(folder) / "vllm.log",
        )
        with server:
            endpoint = Endpoint(url=server.url, model=server.model)
            run_anywhere(check(endpoint))
            yield endpoint, _version(endpoint)


def _running(url: str) -> Endpoint:
    """Return the endpoint of a running server, with the name of the first model that it serves."""
    asked = Endpoint(url=url, model="")
    answer = run_anywhere(fetch(asked, f"{asked.url}/models"))
    found = (answer.body or {}).get("data")
    names = [str(m.get("id")) for m in found if isinstance(m, dict)] if isinstance(found, list) else []
    if not names:
        raise ServerError(
            f"generate_url={url}: no model server answers there ({answer.error or 'it serves nothing'}); start one "
            "(`overtrain serve checkpoint` prints the command) or leave generate_url out"
        )
    return Endpoint(url=url, model=names[0])


def _version(endpoint: Endpoint) -> dict[str, Any]:
    answer = run_anywhere(fetch(endpoint, f"{endpoint.root}/version"))
    return {"vllm": answer.body["version"]} if answer.body and "version" in answer.body else {}


def _visible(device: str) -> dict[str, str]:
    """Return the environment variable that shows the server only our GPU: under torchrun, every process has its own."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return {}
    ours = os.environ.get("CUDA_VISIBLE_DEVICES")
    index = int(number or 0)
    return {"CUDA_VISIBLE_DEVICES": ours.split(",")[index].strip() if ours else str(index)}
