"""Processes for the engine: those of this machine, or of a Dask cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from bridges.errors import ConfigError, MissingDependencyError
from bridges.migration.config import EngineSpec

CHECK = 1.0  # seconds after which a worker sees that the migration is gone


@contextmanager
def executor_of(spec: EngineSpec) -> Iterator[tuple[Executor, int]]:
    """An executor, and how many workers it has. Raises ConfigError and MissingDependencyError."""
    if spec.kind == "dask":
        with _dask(spec) as found:
            yield found
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    workers = spec.workers or _cores()
    spawn = get_context("spawn")  # a fork would share locks and connections
    with ProcessPoolExecutor(workers, spawn, _begin, (os.getpid(),)) as pool:
        yield pool, workers


def is_loss(error: Exception) -> bool:
    """Whether a task failed because its worker was lost."""
    return type(error).__name__ in ("BrokenProcessPool", "KilledWorker")


@contextmanager
def _dask(spec: EngineSpec) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError("distributed", "dask") from None
    try:
        client = Client(spec.scheduler, timeout=10)
    except OSError as error:
        message = f"the Dask scheduler {spec.scheduler} cannot be reached: {error}"
        raise ConfigError(message) from None
    with client:
        workers = sum(client.nthreads().values()) or 1
        # Dask itself moves the tasks of a lost worker to others, as often as `allowed-failures` of
        # its scheduler says (3), before it is a loss here; with retries of its own it would only
        # repeat what fails by itself
        yield client.get_executor(pure=False, retries=0), workers


def _cores() -> int:
    """How many processors we may use; macOS and Windows only tell how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(parent: int) -> None:
    """In a worker: Ctrl-C is the parent's affair, and without a parent there is no work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK)
    os._exit(1)
