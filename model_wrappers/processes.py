"""The processes of one job, as torchrun started them: who has joined, and which one this is."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time

from model_wrappers.errors import ConfigError

__all__ = ["end", "join", "world"]

_PAUSE = 0.2
"""Seconds for the threads of a group that was left to let go of what they hold; they need the interpreter for it."""


def join() -> None:
    """Join the other processes that ``torchrun`` started, over NCCL where there are GPUs and over gloo on a CPU.

    lm-eval's own model would not: on a CPU every process of a job then takes itself for the only one.
    """
    if _promised() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())
        atexit.register(_leave)


def end() -> None:
    """End this process successfully: at once if it is one of several that have joined, else by returning.

    A thread of gloo may still hold tensors of the last exchange when the interpreter is taken down, and the process is then
    aborted after all its work ("terminate called without an active exception"); torchrun calls the whole job failed for
    it. Leaving the group is not enough, since DistributedDataParallel keeps it alive; so such a process skips the
    interpreter's end.
    """
    if _promised() == 1:  # torch, which may not even be loaded, has nothing to say here
        return
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        _leave()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _leave() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        time.sleep(_PAUSE)


def world() -> tuple[int, int]:
    """Return (rank, world size) as the launcher set them, and check that torch.distributed agrees.

    Raises:
        ConfigError: the launcher promised more processes than have joined, as ``accelerate launch --cpu`` does.
    """
    from torch import distributed

    initialised = distributed.is_available() and distributed.is_initialized()
    joined = distributed.get_world_size() if initialised else 1
    if _promised() != joined:
        raise ConfigError(
            f"WORLD_SIZE={_promised()} but {joined} process(es) joined torch.distributed: start with `torchrun "
            "--nproc-per-node=N -m model_wrappers ...`"
        )
    return (distributed.get_rank() if initialised else 0), joined


def _promised() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
