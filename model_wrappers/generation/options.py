"""The model arguments that say how answers are generated."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from model_wrappers.coerce import coerce
from model_wrappers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Backend", "GenerateOptions"]

Backend = Literal["hf", "vllm"]


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Who generates.

    Attributes:
        generate_backend: ``hf``, or ``vllm``: the weights are served by vLLM and asked over its OpenAI-compatible API.
        generate_url: of a vLLM server that runs already and serves these very weights; implies ``vllm``.
        vllm_python: the Python that has vLLM; default the environment's ``OVERTRAIN_VLLM_PYTHON``, else this one.
    """

    generate_backend: Backend = "hf"
    generate_url: str | None = None
    vllm_python: str | None = None

    @property
    def request_kind(self) -> str:
        """What digests call a request for text: another back end gives other texts, so other results."""
        return "generate_until" if self.generate_backend == "hf" else f"generate_until/{self.generate_backend}"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the arguments' names."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def take(cls, arguments: dict[str, Any]) -> GenerateOptions:
        """Take the options out of ``arguments``.

        Raises:
            ConfigError: a value is not allowed, or two contradict each other.
        """
        return cls.parse({name: arguments.pop(name) for name in cls.names() if name in arguments})

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> GenerateOptions:
        """Return the options of ``given``, as they come from a command line.

        >>> GenerateOptions.parse({"generate_url": "http://127.0.0.1:8000/v1"}).generate_backend
        'vllm'

        Raises:
            ConfigError: a value is not allowed, or two contradict each other.
        """
        url = coerce("generate_url", given.get("generate_url"), str | None)
        named = given.get("generate_backend")
        backend: Any = coerce("generate_backend", named, Backend) if named is not None else ("vllm" if url else "hf")
        if url and backend == "hf":
            raise ConfigError(
                f"generate_url={url} and generate_backend=hf contradict each other; leave out one of them"
            )
        return cls(
            generate_backend=backend,
            generate_url=url,
            vllm_python=coerce("vllm_python", given.get("vllm_python"), str | None),
        )
