"""The processes of one job, as torchrun started them: who has joined, and which one this is."""

from __future__ import annotations

import atexit
import os

from model_wrappers.errors import ConfigError

__all__ = ["join", "leave", "world"]


def join() -> None:
    """Join the other processes that ``torchrun`` started, over NCCL where there are GPUs and over gloo on a CPU.

    lm-eval's own model would not: on a CPU every process of a job then takes itself for the only one.
    """
    if _promised() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())
        atexit.register(leave)


def leave() -> None:
    """Leave the group that `join` joined; harmless where there is none.

    A process that ends while the group's threads still run is sometimes aborted at its very end ("terminate called without an
    active exception"), after all its work, and torchrun then calls the whole job failed.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


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
