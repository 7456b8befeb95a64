"""A Dask cluster on this machine: a scheduler, and workers with one thread each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from tests.bounds import HANGS
from tests.servers import free_port
from tests.support import REPOSITORY

Process = subprocess.Popen[bytes]


@contextmanager
def dask_cluster(
    workers: int = 2, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[Process]]]:
    """The address of the scheduler, and the worker processes."""
    from distributed import Client

    address, more = f"tcp://127.0.0.1:{free_port()}", environment or {}
    with ExitStack() as stack:
        scheduler = ["-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", address]
        stack.enter_context(_running(scheduler, more))
        worker = ["-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
        worker += ["--no-dashboard", "--death-timeout", f"{HANGS:g}"]
        started = [stack.enter_context(_running(worker, more)) for _ in range(workers)]
        with Client(address, timeout=HANGS) as client:
            client.wait_for_workers(workers, timeout=HANGS)
        yield address, started


@contextmanager
def _running(command: list[str], environment: Mapping[str, str]) -> Iterator[Process]:
    """A Python process, killed at the end of the block."""
    quiet = subprocess.DEVNULL
    found = {**os.environ, **environment, "PYTHONPATH": str(REPOSITORY / "src")}
    process = subprocess.Popen([sys.executable, *command], stdout=quiet, stderr=quiet, env=found)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
