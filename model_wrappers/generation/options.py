"""The model arguments that decide how answers are generated."""

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
    """The back end that generates answers, and where to find it.

    Attributes:
        generate_backend: ``hf`` for transformers in this process; ``vllm`` for a vLLM server with these weights, which is
            asked through its OpenAI-compatible API.
        generate_url: URL of a running vLLM server that serves exactly these weights; implies ``vllm``.
        vllm_python: path of a Python with vLLM; by default ``OVERTRAIN_VLLM_PYTHON``, else the running Python.
    """

    generate_backend: Backend = "hf"
    generate_url: str | None = None
    vllm_python: str | None = None

    @property
    def request_kind(self) -> str:
        """The kind of request in digests. It names the back end, because another back end gives other texts."""
        return "generate_until" if self.generate_backend == "hf" else f"generate_until/{self.generate_backend}"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the arguments' names."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def take(cls, arguments: dict[str, Any]) -> GenerateOptions:
        """Remove the options from ``arguments`` and return them.

        Raises:
            ConfigError: a value is not allowed, or two contradict each other.
        """
        return cls.parse({name: arguments.pop(name) for name in cls.names() if name in arguments})

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> GenerateOptions:
        """Return the options in ``given``, whose values may be text from a command line.

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
