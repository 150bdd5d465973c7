"""Worker processes for independent, single-threaded jobs."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Self

from model_wrappers.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

__all__ = ["Pool", "report"]

_QUEUES: list[Any] = []  # in a worker process: one entry, the queue to its parent


class Pool:
    """A pool of worker processes with one thread each. The workers end when their parent ends, even if it is killed.

    Workers are spawned and not forked, because a forked process inherits torch's thread pools in an unknown state.

    >>> with Pool(workers=1) as pool:
    ...     pool.submit("a", len, "four")
    ...     list(pool.finished(lambda amount: None))
    [('a', 4)]
    """

    def __init__(
        self, workers: int | None = None, environment: Mapping[str, str] | None = None, logs: Path | None = None
    ) -> None:
        """Prepare the pool. A worker starts when a job is submitted and no worker is free.

        Args:
            workers: largest number of processes; by default one per CPU.
            environment: environment variables to add in the workers.
            logs: folder for the workers' output, one file each. If it is None, they print to the parent's streams.
        """
        context = multiprocessing.get_context("spawn")
        self._reports: multiprocessing.Queue[Any] = context.Queue()
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(
            max_workers=workers or os.cpu_count() or 1,
            mp_context=context,
            initializer=_start,
            initargs=(self._reports, dict(environment or {}), logs),
        )
        self._jobs: dict[Future[Any], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._reports.close()

    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Queue one job; jobs start in this order. Function and arguments must pickle."""
        self._jobs[self._pool.submit(function, *arguments)] = name

    def finished(self, progress: Callable[[Any], None]) -> Iterator[tuple[str, Any]]:
        """Yield (name, result) of every job when it ends, including jobs that are submitted in the meantime.

        Args:
            progress: called, a few times per second, with every message that jobs pass to `report`.

        Raises:
            StoreError: a worker was killed (usually because memory ran out).
            Exception: the exception that a job raised.
        """
        while self._jobs:
            ended = self._wait()
            for message in self._reports_so_far():
                progress(message)
            for future in ended:
                yield self._jobs.pop(future), _result(future)
        for message in self._reports_so_far():
            progress(message)

    def news(self) -> Iterator[Any]:
        """Yield every message that jobs pass to `report`, and the result of every job, in the order of arrival.

        A message that has not arrived when the last job ends is lost. Results are never lost.

        Raises:
            StoreError: a worker was killed (usually because memory ran out).
            Exception: the exception that a job raised.
        """
        while self._jobs:
            ended = self._wait()
            yield from self._reports_so_far()
            for future in ended:
                del self._jobs[future]
                yield _result(future)

    def _wait(self) -> set[Future[Any]]:
        """Return the jobs that have ended; wait up to 0.2 s for the first."""
        return wait(self._jobs, timeout=0.2, return_when=FIRST_COMPLETED).done

    def _reports_so_far(self) -> Iterator[Any]:
        while True:
            try:
                yield self._reports.get_nowait()
            except queue.Empty:
                return


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise StoreError(
            "a worker process was killed, most likely for want of memory; run the same command again "
            "(what is finished is kept), with fewer workers if need be"
        ) from error


def report(message: Any) -> None:
    """Send a message about a job's progress to the parent (``message`` must pickle). Outside of a worker, do nothing."""
    if _QUEUES:
        _QUEUES[0].put(message)


def _start(reports: Any, environment: dict[str, str], logs: Path | None) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole process group, but the parent ends the workers
    os.environ.update(environment)
    if logs is not None:
        _redirect(logs)
    _QUEUES.append(reports)
    threading.Thread(target=_die_with_parent, daemon=True).start()

    import torch

    torch.set_num_threads(1)


def _redirect(logs: Path) -> None:
    """Send the output of this process and its children to a file, because it would break the parent's progress bar."""
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"worker-{os.getpid()}.log").open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
