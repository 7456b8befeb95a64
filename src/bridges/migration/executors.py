"""Processes for the engine: those of this machine, or of a Dask cluster."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bridges.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from bridges.migration.config import EngineSpec

PRELOADED = [  # what workers import
    "bridges.migration.work",
    "bridges.exporters.tensorboard",
    "bridges.exporters.mlflow",
    "bridges.exporters.wandb",
]


def start_ahead() -> None:
    """Let the workers of this program be forked from a process that imports what they need; it
    begins now, while the program itself imports and plans. For a program of our own only: which
    processes it has is what a program decides.
    """
    import multiprocessing

    if sys.platform in ("darwin", "win32"):  # no fork is safe there, or none exists
        return
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # which would unblock what is blocked now
    # the server begins with what is blocked here: Ctrl-C is our affair, also while it imports
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def executor_of(spec: EngineSpec) -> Iterator[tuple[Executor, int]]:
    """An executor, and how many workers it has. Raises ConfigError and MissingDependencyError."""
    if spec.kind == "dask":
        with _dask(spec) as found:
            yield found
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context, get_start_method

    workers = spec.workers or _cores()
    # a fork of this process would share its locks and connections
    is_ahead = get_start_method(allow_none=True) == "forkserver"
    context = get_context("forkserver" if is_ahead else "spawn")
    with ProcessPoolExecutor(workers, context, _begin) as pool:
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


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's affair, and without a parent there is no work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, daemon=True).start()
    gc.freeze()  # what was imported stays: to look through it takes as long as many runs


def _watch() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
