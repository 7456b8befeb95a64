"""What the benchmarks share: histories, timing, and the lines of the table.

Whole processes are timed from outside, the median of several in turn.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROWS = 200_000
SHARE = 10  # the stock tools handle ROWS / SHARE rows
BRIDGE = [sys.executable, "-m", "bridges"]
LAUNCHER = """
import os, sys, time
began = time.perf_counter()
nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=nothing)
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - began, usage.ru_maxrss)
"""
# its orphans become children of whoever started it, which so counts them, too
CPU_LAUNCHER = """
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)]
first = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=nothing)
code, seconds = 0, 0.0
while True:
    try:
        child, status, usage = os.wait4(-1, 0)
    except ChildProcessError:
        break
    seconds += usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status) if child == first else code
print(code, seconds)
"""
# an installed package has its byte code beside it
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def history(path: Path, rows: int, seed: int = 1) -> Path:
    """A trainer_state.json of that many training rows with five metrics each.

    Written row by row: a child's peak memory counts that of the process that started it.
    """
    rng = random.Random(seed)
    with open(path, "w") as file:
        file.write(f'{{\n  "global_step": {rows * 10},\n  "log_history": [\n')
        for row in range(rows):
            values = {
                "entropy": rng.random(),
                "epoch": (row + 1) / 9041,
                "grad_norm": rng.random() * 3,
                "learning_rate": 1e-4 * (1 - row / rows),
                "loss": round(rng.random() * 2, 4),
                "step": (row + 1) * 10,
            }
            text = json.dumps(values, indent=6).replace("\n}", "\n    }")
            file.write(f"    {text}{',' if row < rows - 1 else ''}\n")
        file.write(f'  ],\n  "max_steps": {rows * 10}\n}}\n')
    return path


def best(
    action: Callable[[], object], repeats: int = 5, before: Callable[[], object] = int
) -> float:
    """The median time of an action, in seconds; `before` runs before each, unmeasured."""
    times = []
    for _ in range(repeats):
        before()
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def process(command: list[str]) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MiB of a whole process.

    A small process starts it: the peak of a child counts that of its parent at that moment.
    """
    launcher = [sys.executable, "-ISc", LAUNCHER, *command]
    done = subprocess.run(launcher, stdout=subprocess.PIPE, env=ENVIRONMENT, check=True)
    code, seconds, peak = done.stdout.split()
    if int(code):
        raise SystemExit(f"{command} failed with exit code {int(code)}")
    return float(seconds), float(peak) / 1024


def cpu(command: list[str]) -> float:
    """CPU seconds of a whole process and of all processes that it starts. For Linux."""
    launcher = [sys.executable, "-ISc", CPU_LAUNCHER, *command]
    done = subprocess.run(launcher, stdout=subprocess.PIPE, env=ENVIRONMENT, check=True)
    code, seconds = done.stdout.split()
    if int(code):
        raise SystemExit(f"{command} failed with exit code {int(code)}")
    return float(seconds)


def own_cpu(action: Callable[[], object]) -> float:
    """CPU seconds of an action of this process."""
    started = time.process_time()
    action()
    return time.process_time() - started


def least_cpu(*actions: Callable[[], object], repeats: int = 9) -> list[float]:
    """The least CPU seconds of each action, run A B A B …: the least a loaded machine disturbs."""
    rounds = [[own_cpu(action) for action in actions] for _ in range(repeats)]
    return [min(times) for times in zip(*rounds, strict=True)]


def millis(seconds: float) -> str:
    """A time for a note of the table."""
    return f"{1000 * seconds:.0f} ms"


def two_at_once() -> float:
    """How much more two processes compute than one in the same time: less than 2 where processors
    share a core, or others use them.
    """
    command = [sys.executable, "-ISc", "sum(x * x for x in range(10_000_000))"]

    def together(count: int) -> float:
        return best(lambda: [p.wait() for p in [subprocess.Popen(command) for _ in range(count)]])

    return 2 * together(1) / together(2)


def in_turn(*commands: Callable[[], list[str]], repeats: int = 5) -> list[tuple[float, float]]:
    """Median wall time and largest peak of each command, run A B A B …"""
    results: list[list[tuple[float, float]]] = [[] for _ in commands]
    for _ in range(repeats):
        for index, command in enumerate(commands):
            results[index].append(process(command()))
    return [(statistics.median(w for w, _ in r), max(p for _, p in r)) for r in results]


def line(what: str, figure: float, goal: str, note: str = "") -> None:
    """One line of the table."""
    print(f"{what:<62}{figure:>10,.2f}×   {goal:<10}{note}")
