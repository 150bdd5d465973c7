"""Answers by vLLM: the weights are served by a process of their own and asked over its OpenAI-compatible API.

Prompts are sent as token ids, tokenised and cut as lm-eval's own model would, so both back ends continue the same tokens.
Greedy answers of the two can still differ where two tokens are all but equally likely: kernels round differently.
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
    """One prompt.

    Attributes:
        tokens: its ids.
        parameters: of the request, as vLLM names them.
    """

    tokens: list[int]
    parameters: dict[str, Any]


class Weights(NamedTuple):
    """What is to be served.

    Attributes:
        location: a folder, or a hub repository.
        revision: of a repository.
        dtype: of the weights, e.g. ``float32``.
        context: tokens that the model takes.
        device: ``cpu``, ``cuda:0``, ... on which our own copy lies.
        trust_remote_code: run code that a repository brings along.
    """

    location: str
    revision: str | None
    dtype: str
    context: int
    device: str
    trust_remote_code: bool = False


def sampling(arguments: Mapping[str, Any], defaults: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return lm-eval's generation arguments as vLLM's.

    Args:
        arguments: after lm-eval's ``normalize_gen_kwargs``, with its stop texts.
        defaults: of transformers' sampling for what ``arguments`` leave out, e.g. ``top_k``.
        seed: of this prompt.

    Raises:
        ConfigError: an argument that vLLM has no counterpart for.
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

    The server is asked for token ids beside the text: its own text lacks a character that the last token leaves incomplete,
    where lm-eval's has a replacement character.

    Args:
        endpoint: the server.
        completions: the prompts.
        decode: from tokens to text, as lm-eval does it.

    Raises:
        ServerError: the server is gone, or leaves a prompt unanswered.
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
    """Yield an endpoint that has the weights, and what is known of its server, for the results.

    Raises:
        ConfigError: there is no vLLM.
        ServerError: no server, or none that serves anything.
    """
    if options.generate_url is not None:
        endpoint = _there(options.generate_url)
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


def _there(url: str) -> Endpoint:
    """Return the endpoint of a server that runs already, with the one model that it serves."""
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
    """Return what lets the server see our accelerator alone: under torchrun every process has one of its own."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return {}
    ours = os.environ.get("CUDA_VISIBLE_DEVICES")
    index = int(number or 0)
    return {"CUDA_VISIBLE_DEVICES": ours.split(",")[index].strip() if ours else str(index)}
