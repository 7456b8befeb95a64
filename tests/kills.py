"""Kills of a command in the midst of its work, however fast the machine is.

The moment of a kill is a processor time of the command itself, or what it has done so far, between
its first change of its target and its end when nothing disturbed it. A kill counts only if it met a
command that had begun to change its target and had not ended. Linux only.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bounds import HANGS

PAUSE = 0.001  # seconds between two looks at a command
TRIES = 10  # attempts for each kill that is wanted, at most


@dataclass(frozen=True)
class Command:
    """A command that runs in a group of its own, and whether it has changed its target already."""

    process: subprocess.Popen[Any]
    has_begun: Callable[[], bool]
    is_whole_group: bool = True  # is killed, or only the command without its children
    work: Callable[[], float] | None = None  # done so far; else processor seconds

    def done(self) -> float:
        return self.work() if self.work else processor_time(self.process)

    def signal(self, number: signal.Signals) -> None:
        (os.killpg if self.is_whole_group else os.kill)(self.process.pid, number)


def start(command: list[str], **more: Any) -> subprocess.Popen[bytes]:
    """A quiet process in a group of its own."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True, **more)


def kill_often(
    wanted: int, seed: int, begin: Callable[[], Command], check: Callable[[], None]
) -> None:
    """Let a command end, then kill others at random moments until so many of the kills count.

    `begin` prepares the place of a command and starts it; `check` says what holds after each.
    """
    first, end = undisturbed(begin())
    check()
    chance, kills = random.Random(seed), 0
    for _ in range(TRIES * wanted):
        kills += killed(begin(), chance.uniform(first, end))
        check()
        if kills == wanted:
            return
    raise AssertionError(f"only {kills} of {TRIES * wanted} kills met a command at its work")


def undisturbed(command: Command) -> tuple[float, float]:
    """What a command had done when it first changed its target, and at its end."""
    first = end = 0.0
    begun = False
    for _ in looks_at(command):
        end = command.done()
        begun = begun or command.has_begun()
        first = first if begun else end
    assert command.process.wait() == 0
    assert begun or command.has_begun(), "it changed nothing"
    return first, end


def killed(command: Command, moment: float) -> bool:
    """Kill a command when it has done so much; whether that counts."""
    process = command.process
    for _ in looks_at(command):
        if command.done() >= moment:
            command.signal(signal.SIGSTOP)
            counts = command.has_begun()
            command.signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL and counts
    process.wait()
    return False


def looks_at(command: Command) -> Iterator[None]:
    """Yield every `PAUSE` seconds until a command has ended; kill it and fail when it hangs."""
    end = time.monotonic() + HANGS
    while not has_ended(command.process):
        if time.monotonic() > end:
            command.signal(signal.SIGKILL)
            raise AssertionError(f"not ended after {HANGS:g} s: {command.process.args!r}")
        yield
        time.sleep(PAUSE)


def has_ended(process: subprocess.Popen[Any]) -> bool:
    """Whether a process has ended; it can still be asked for its processor time."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended is not None


def processor_time(process: subprocess.Popen[Any]) -> float:
    """The processor seconds of a process that was not waited for yet."""
    return time.clock_gettime((~process.pid << 3) | 2)  # as clock_getcpuclockid(3) numbers it


def look(*folders: Path) -> list[tuple[str, int, int]]:
    """All that lies in folders, with sizes and times of change: it differs after a change."""
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
