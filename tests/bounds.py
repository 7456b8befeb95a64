"""Limits of memory and processor time, independent of the machine's load, and of hanging waits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

HANGS = 600.0  # seconds of waiting after which a test fails

_START = """
import os, resource, sys
import bridges.api, bridges.sources.trainer.run_directory, bridges.formats.events.reader
from bridges.formats import pickles
from bridges.formats.events import crc32c
from bridges.sources.sidecars import settings_files
from bridges.sources.tuning_logs import tool_log as trainer_log
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
    """Run Python code in a limited process and return its output; its arguments are `args`.

    The limits are `mebibytes` of memory after the imports of bridges, and `seconds` of processor
    time, plus 10 for the imports. Linux only.
    """
    command = [sys.executable, "-c", _START + code, str(mebibytes), str(seconds), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-2000:]}"
    return done.stdout


def processor_seconds(action: Callable[[], object]) -> float:
    """The processor time of an action in seconds, the minimum of three runs."""
    times = []
    for _ in range(3):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return min(times)


def until(condition: Callable[[], object], *processes: subprocess.Popen[Any]) -> None:
    """Wait for a condition. Fails after HANGS seconds, or if one of the processes ends first."""
    end = time.monotonic() + HANGS
    while not condition():
        ended = [process.args for process in processes if process.poll() is not None]
        assert not ended or condition(), f"ended before the condition was true: {ended}"
        assert time.monotonic() < end, f"the condition is false after {HANGS:g} s"
        time.sleep(0.05)
