"""Kills of a command in the midst of its work, however fast the machine is.

The moment of a kill is a processor time of the command itself, between the one at which it first
changed its target and the one at which it ended when nothing disturbed it. A kill counts only if it
met a command that had begun to change its target and had not ended. Linux only.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAUSE = 0.001  # seconds between two looks at a command
TRIES = 10  # attempts for each kill that counts, at most

Process = subprocess.Popen[Any]
Begin = Callable[[], Process]
HasBegun = Callable[[], bool]  # whether the command has changed its target


def start(command: list[str], **more: Any) -> Process:
    """A quiet process in a group of its own, which is killed with all its children."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **{**quiet, **more})


def processor_time(process: Process) -> float:
    """The processor seconds that a process has used that nobody has waited for yet."""
    return time.clock_gettime((~process.pid << 3) | 2)  # as clock_getcpuclockid(3) numbers it


@dataclass(frozen=True)
class Span:
    """The processor seconds of a command when it first changed its target, and at its end."""

    first: float
    end: float

    def moment(self, chance: random.Random) -> float:
        return chance.uniform(self.first, self.end)


def undisturbed(process: Process, has_begun: HasBegun) -> Span:
    """Let a command end, which must succeed, and see when it worked at its target."""
    first = end = 0.0
    while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        end = processor_time(process)
        first = first if has_begun() else end
        time.sleep(PAUSE)
    assert has_begun(), "it changed nothing"
    assert process.wait() == 0
    return Span(first, end)


def killed(process: Process, moment: float, has_begun: HasBegun) -> bool:
    """Kill a command, with its children, at a processor time of it; whether that counts."""
    while process.poll() is None:
        if processor_time(process) >= moment:
            os.killpg(process.pid, signal.SIGSTOP)
            counts = has_begun()
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait() == -signal.SIGKILL and counts
        time.sleep(PAUSE)
    return False


def kill_often(
    wanted: int, span: Span, chance: random.Random, attempt: Callable[[float], bool]
) -> None:
    """Attempts at random moments of a span until so many kills count."""
    kills = 0
    for _ in range(TRIES * wanted):
        kills += attempt(span.moment(chance))
        if kills == wanted:
            return
    raise AssertionError(f"only {kills} of {TRIES * wanted} kills met a command at its work")


def looks(*folders: Path) -> list[tuple[str, int, int]]:
    """All that lies in folders, with sizes and times of change: a change of a target is seen."""
    found = []
    for folder in folders:
        for place, _, names in os.walk(folder):
            for path in (place, *(os.path.join(place, name) for name in names)):
                try:
                    status = os.stat(path)
                except FileNotFoundError:  # removed meanwhile
                    continue
                found.append((path, status.st_size, status.st_mtime_ns))
    return sorted(found)
