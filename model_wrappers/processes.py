"""The processes of one torchrun job: joining them, the rank of this process, and the end of the job."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time

from model_wrappers.errors import ConfigError

__all__ = ["end", "join", "world"]

_PAUSE = 0.2
"""Seconds that the threads of a process group get to release their tensors; they need the running interpreter for it."""


def join() -> None:
    """Join the other processes that ``torchrun`` started, with NCCL on GPUs and with gloo on a CPU.

    lm-eval's own model does not join them on a CPU, so there every process of a job believes that it is alone.
    """
    if _promised() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())
        atexit.register(_leave)


def end() -> None:
    """End this process successfully. If it is one of several joined processes, it exits at once, else this returns.

    When the interpreter shuts down, a thread of gloo may still hold tensors of the last exchange. Then the process is aborted
    after all its work is done ("terminate called without an active exception"), and torchrun reports the whole job as failed.
    Leaving the process group does not help, because DistributedDataParallel keeps the group alive. So a joined process exits
    without the interpreter's shutdown.
    """
    if _promised() == 1:  # do not import torch for a single process
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
    """Return (rank, world size) from the launcher, and check that torch.distributed has the same world size.

    Raises:
        ConfigError: the launcher announced more processes than have joined, as ``accelerate launch --cpu`` does.
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
