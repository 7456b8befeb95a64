"""Bounds that do not depend on what else the machine does: of memory, of processor time, and one of
wall time that only catches what hangs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

HANGS = 600.0  # seconds after which what should end, answer or become so is taken to hang

_START = """
import os, resource, sys
import bridges.api, bridges.sources.trainer.run_directory, bridges.formats.events.reader
from bridges.formats import pickles
from bridges.formats.events import crc32c
from bridges.sources.sidecars import sidecars as beside
from bridges.sources.tuning_logs import source as trainer_log
from bridges.sources.trainer import state_file as trainer_state
import pydantic_core, yaml, zipfile, json, fsspec
crc32c.crc32c(b"tables are made")
mebibytes, seconds, *args = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (mebibytes << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (seconds + 10,) * 2)
"""


def bounded(code: str, *args: str, mebibytes: int = 64, seconds: int = 20) -> str:
    """The output of Python code, which finds its arguments in `args`.

    It may use `mebibytes` beside what the imports of bridges take, and `seconds` of processor time
    (10 more are for the imports): neither depends on what else the machine does. Linux only.
    """
    command = [sys.executable, "-c", _START + code, str(mebibytes), str(seconds), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-2000:]}"
    return done.stdout


def processor_seconds(action: Callable[[], object]) -> float:
    """The processor time of an action, the least of three times."""
    times = []
    for _ in range(3):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return min(times)


def until(condition: Callable[[], object], *processes: subprocess.Popen[Any]) -> None:
    """Wait for a condition; fail when it hangs, or when one of the processes it needs has ended."""
    end = time.monotonic() + HANGS
    while not condition():
        ended = [process.args for process in processes if process.poll() is not None]
        assert not ended or condition(), f"ended before it was so: {ended}"
        assert time.monotonic() < end, f"not so after {HANGS:g} s"
        time.sleep(0.05)
