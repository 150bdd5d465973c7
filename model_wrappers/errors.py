"""Errors that a user can correct.

::

    OvertrainError
    ├── ConfigError       an argument, a model_args string or a YAML file
    ├── CheckpointError   a repository, a revision or a weight file
    ├── DataError         fine-tuning rows or evaluation rows
    ├── DivergedError     a training or a modification whose weights or scores are not finite
    ├── StoreError        the cache of tuned weights, the results folder, a full disk
    ├── ServerError       a model server that does not start, does not answer, or refuses
    └── JudgeError        judging: the judge cannot be asked, or too many questions are left without a preference

A message names the value and the allowed values, and ends with the remedy. The command lines print only the message and exit
with code 2. Every other exception is a bug and is shown with its traceback.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "JudgeError",
    "OvertrainError",
    "ServerError",
    "StoreError",
    "close_match",
    "install_excepthook",
]


class OvertrainError(Exception):
    """Base of every error that a user can correct."""


class ConfigError(OvertrainError, ValueError):
    """An argument is unknown, of the wrong type or out of its range."""


class CheckpointError(OvertrainError):
    """A checkpoint cannot be found or cannot be loaded safely."""


class DataError(OvertrainError):
    """Rows are missing or malformed, or no row is left to train or score on."""


class DivergedError(OvertrainError):
    """Weights, losses or scores are not finite numbers, so there is nothing to evaluate.

    In a study, this is an outcome of the cell and not a failure. It is recorded and shown, but the cell has no scores and is
    never selected.
    """


class StoreError(OvertrainError):
    """Weights or results could not be written or read back."""


class ServerError(OvertrainError):
    """A model server did not start, has gone, or does not answer."""


class JudgeError(OvertrainError):
    """The judge did not answer, or its answer does not have the required form."""


def close_match(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``known``, or an empty string.

    >>> close_match("gama", ["gamma", "seed"])
    "; did you mean 'gamma'?"
    >>> close_match("attn_implementation", ["gamma", "seed"])
    ''
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f"; did you mean {found[0]!r}?" if found else ""


def install_excepthook() -> None:
    """Make an uncaught `OvertrainError` end this process with one message and exit code 2.

    This is for command lines of other projects (``lm_eval``), where nothing catches the exceptions of a model's constructor.
    The constructor does not call ``sys.exit`` itself, because that would end notebooks and Ray workers too. The hook is
    installed once. It passes every other exception to the previous hook.
    """
    previous = sys.excepthook
    if getattr(previous, "_overtrain", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, OvertrainError):
            previous(kind, error, trace)
            return
        sys.stdout.flush()
        stream = sys.__stderr__ or sys.stderr  # torch.distributed's own hook captures sys.stderr while it calls us
        stream.write(f"error: {error}\n")
        stream.flush()
        raise SystemExit(2)

    hook._overtrain = True  # type: ignore[attr-defined]
    sys.excepthook = hook
