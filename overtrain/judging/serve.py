"""``overtrain serve``: the vLLM command for a judge or for a checkpoint, printed or run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, ServerError
from model_wrappers.serving.server import VllmServer, command, vllm_python
from overtrain.results.naming import SHORTEST_ID, named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["DEFAULT_JUDGE", "locate", "printed", "run"]

DEFAULT_JUDGE = "meta-llama/Meta-Llama-3-70B-Instruct"
"""Source: Springer et al. (2025), Appendix B.3."""


def locate(what: str, *, cell: str | None = None) -> str:
    """Return the folder or hub repository that ``what`` names.

    Args:
        what: a folder with weights, a ``weights_id`` of the cache (eight characters are enough), a study's folder (with
            ``cell``), or a hub repository.
        cell: of the study: its label, its ``cell_id`` (eight characters are enough), or a pattern that fits one label.

    Raises:
        ConfigError: there is no such cell, or its weights are not kept.
    """
    folder = Path(what).expanduser()
    if (folder / "study.json").is_file():
        return _of_study(folder, cell)
    if cell is not None:
        raise ConfigError(
            f"cell={cell!r}: {what} is no study's folder (no study.json); give the folder that sweep has made"
        )
    if folder.is_dir():
        return str(folder.resolve())
    return _cached(what) or what


def printed(model: str, *, port: int = 8000, host: str = "127.0.0.1", **options: Any) -> str:
    """Return the command as one line for a shell; works without vLLM, then with ``python`` to be filled in.

    Args:
        model: a folder or a hub repository.
        port: to listen on.
        host: address to listen on; other machines reach ``0.0.0.0`` only.
        options: of `model_wrappers.serving.server.command`, and ``python``.
    """
    given = options.pop("python", None)
    try:
        python = vllm_python(given)
    except ConfigError:
        if given:
            raise
        python = "python"
    options = {name: value for name, value in options.items() if value is not None}
    return shlex.join(command(model, port=port, host=host, python=python, **options))


def run(
    model: str,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    say: Callable[[str], None] = print,
    extra: Sequence[str] = (),
    **options: Any,
) -> None:
    """Start the server, wait until it answers, and stay until Ctrl-C, which ends it.

    Args:
        model: a folder or a hub repository.
        port: to listen on.
        host: address to listen on.
        say: takes what a user should know.
        extra: further options of vLLM.
        options: of `VllmServer`.

    Raises:
        ConfigError: there is no vLLM.
        ServerError: the server does not start, or ends by itself.
    """
    options = {name: value for name, value in options.items() if value is not None}
    server = VllmServer(model, port=port, host=host, extra=extra, **options)
    say(shlex.join(server.command()))
    say("starting (a large model takes minutes) ...")
    try:
        with server:
            say(f"{server.model} is served at {server.url}; its output is in {server.log}; Ctrl-C ends it")
            status = server.wait()
            raise ServerError(f"vLLM ended with status {status}; the last lines of its log:\n{server.tail()}")
    except KeyboardInterrupt:
        say("ended")


def _of_study(folder: Path, name: str | None) -> str:
    """Return the folder of a cell's tuned weights in the cache."""
    from overtrain.results.frame import load_study

    cells = [cell for cell in load_study(folder).cells if cell.weights_id]
    if name is None:
        such = cells[-1].label if cells else "LABEL"
        raise ConfigError(f"{folder}: name one of its cells with --cell, such as {such!r}")
    cell = named(cells, name, "cell")
    cached = _cached(cell.weights_id or "")
    if cached is None:
        raise ConfigError(
            f"{cell.label}: its weights are not in the cache; run the study with keep_weights: all (or best), or "
            "tune it again with lm_eval --model overtrain_ft"
        )
    return cached


def _cached(weights_id: str) -> str | None:
    """Return the folder of the one cached entry whose id begins so, or None."""
    from model_wrappers.cache import WeightsCache

    if len(weights_id) < SHORTEST_ID or not set(weights_id) <= set("0123456789abcdef"):
        return None
    cache = WeightsCache()
    found = [path.name for path in cache.root.glob(f"{weights_id}*") if cache.get(path.name) is not None]
    if len(found) > 1:
        raise ConfigError(f"{weights_id}: the beginning of {len(found)} weights_ids; give more characters")
    return str(cache.root / found[0]) if found else None
