"""Kills a command at random moments of its work, independent of the machine's speed.

The moment of a kill is measured in processor time of the command, or in its own unit of progress.
It lies between the first change of the target and the end, as measured in an undisturbed run. A
kill counts only if the command had changed its target and was still running. Linux only.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bounds import HANGS

POLL_SECONDS = 0.001
MAX_TRIES = 10  # attempts per counted kill


@dataclass(frozen=True)
class Command:
    """A running command in its own process group.

    `has_begun`       whether it has changed its target
    `is_whole_group`  whether to kill its children too
    `work`            its progress; by default its processor time in seconds
    """

    process: subprocess.Popen[Any]
    has_begun: Callable[[], bool]
    is_whole_group: bool = True
    work: Callable[[], float] | None = None

    def done(self) -> float:
        """The progress so far."""
        return self.work() if self.work else processor_time(self.process)

    def signal(self, number: signal.Signals) -> None:
        (os.killpg if self.is_whole_group else os.kill)(self.process.pid, number)


def start(command: list[str], **more: Any) -> subprocess.Popen[bytes]:
    """Start a process in its own process group, without its output."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True, **more)


def kill_often(
    wanted: int, seed: int, begin: Callable[[], Command], check: Callable[[], None]
) -> None:
    """Let a command end, then kill others at random moments until `wanted` kills count.

    `begin` prepares the target and starts a command; `check` tests the target after each.
    """
    first, end = undisturbed(begin())
    check()
    chance, kills = random.Random(seed), 0
    for _ in range(MAX_TRIES * wanted):
        kills += killed(begin(), chance.uniform(first, end))
        check()
        if kills == wanted:
            return
    raise AssertionError(f"only {kills} of {MAX_TRIES * wanted} kills hit a working command")


def undisturbed(command: Command) -> tuple[float, float]:
    """The progress of a command at the first change of its target, and at its end."""
    first = end = 0.0
    begun = False
    for _ in polls(command):
        end = command.done()
        begun = begun or command.has_begun()
        first = first if begun else end
    assert command.process.wait() == 0
    assert begun or command.has_begun(), "the command changed nothing"
    return first, end


def killed(command: Command, moment: float) -> bool:
    """Kill a command at a moment of its progress. Returns whether the kill counts."""
    process = command.process
    for _ in polls(command):
        if command.done() >= moment:
            command.signal(signal.SIGSTOP)
            counts = command.has_begun()
            command.signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL and counts
    process.wait()
    return False


def polls(command: Command) -> Iterator[None]:
    """Yield every POLL_SECONDS until the command has ended; kill a hanging one and fail."""
    end = time.monotonic() + HANGS
    while not has_ended(command.process):
        if time.monotonic() > end:
            command.signal(signal.SIGKILL)
            raise AssertionError(f"still running after {HANGS:g} s: {command.process.args!r}")
        yield
        time.sleep(POLL_SECONDS)


def has_ended(process: subprocess.Popen[Any]) -> bool:
    """Whether a process has ended. It stays unreaped: its processor time can still be read."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended is not None


def processor_time(process: subprocess.Popen[Any]) -> float:
    """The processor seconds of an unreaped process."""
    return time.clock_gettime((~process.pid << 3) | 2)  # the id of clock_getcpuclockid(3)


def look(*folders: Path) -> list[tuple[str, int, int]]:
    """Path, size and mtime of all files and directories below folders, to detect changes."""
    found = []
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for path in (parent, *(os.path.join(parent, name) for name in names)):
                try:
                    status = os.stat(path)
                except FileNotFoundError:  # removed meanwhile
                    continue
                found.append((path, status.st_size, status.st_mtime_ns))
    return sorted(found)


# --- at each step in the file system ----------------------------------------------------------

STEPS = re.compile(r"open|os\.(mkdir|rename|link|remove|rmdir|listdir|scandir)|shutil\.rmtree")


def killed_at(step: int, folder: Path, action: Callable[[], object]) -> int:
    """Run an action in a child that is killed just before the given step below a folder.

    Returns its exit code: 0 if it had fewer steps.
    """

    def in_child() -> int:
        taken = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal taken
            if not STEPS.fullmatch(event) or not str(arguments[0]).startswith(str(folder)):
                return
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)
            taken += 1

        sys.addaudithook(count)
        action()
        return 0

    return wait_for(child(in_child))


def child(action: Callable[[], int]) -> int:
    """Start an action in a forked process; its id."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        code = action()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(process: int) -> int:
    """The exit code of a child, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
