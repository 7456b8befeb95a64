"""Executors of the engine: local processes or a Dask cluster."""

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

from bridges import log
from bridges.errors import ConfigError, MissingDependencyError
from bridges.stream.redact import redact_message

if TYPE_CHECKING:
    from bridges.migration.config.config import EngineSpec

PRELOADED = [  # imports of the workers
    "bridges.migration.worker",
    "bridges.sources.trainer.read_tree",
    "bridges.exporters.tensorboard.exporter",
    "bridges.exporters.mlflow.exporter",
    "bridges.exporters.wandb.exporter",
    "bridges.exporters.tables.exporter",
    "bridges.exporters.trackio.exporter",
]


def start_ahead() -> None:
    """Start a forkserver that preloads the workers' imports while this process plans.

    Only for the CLI: a library must not change the start method of processes.
    """
    import multiprocessing

    if sys.platform in ("darwin", "win32"):  # fork is unsafe or missing
        return
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # first, because it resets the signal mask
    # the server inherits the mask, so that Ctrl-C does not stop it while it imports
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def executor_of(spec: EngineSpec) -> Iterator[tuple[Executor, int]]:
    """An executor and its number of workers. Raises ConfigError and MissingDependencyError."""
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
        # Dask reruns the tasks of a lost worker up to `allowed-failures` times (3) before it
        # reports the loss; `retries` would only repeat failing tasks
        yield client.get_executor(pure=False, retries=0), workers


def _cores() -> int:
    """The number of usable processors; on macOS and Windows, of all processors."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin() -> None:
    """Worker initializer: ignore SIGINT (the parent handles it) and exit if the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, daemon=True).start()
    if os.environ.get(log.ENVIRONMENT):
        log.show(redact_message)
    from multiprocessing.util import Finalize

    Finalize(None, _end, exitpriority=1)  # a worker runs no other exit functions
    gc.freeze()  # imported objects stay alive, and scanning them is slow


def _end() -> None:
    from bridges.migration.worker import drop_exporters

    drop_exporters()


def _watch() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
