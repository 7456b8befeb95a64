"""Runs a server until the pipe on stdin closes, then stops it and removes its folder.

The pipe closes at the end of a `with`, on an exception, on Ctrl-C (this process has its own session
and does not get the signal), and when pytest is killed. So no server and no folder outlives the
tests. Run as a script, with the standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

LOG, EXITED = "server.log", "exited"
STOP_SECONDS = 15.0  # from the stop signal to SIGKILL


def start(task: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """Start the server in its own session, so one signal reaches all of its processes."""
    owner: dict[str, Any] = {}
    if task["user"] is not None:
        owner = {"user": task["user"], "group": task["group"], "extra_groups": []}
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            task["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
            **owner,
        )


def wait(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the server's end and write its exit code to the file EXITED."""
    code = server.wait()
    with contextlib.suppress(OSError):
        (folder / EXITED).write_text(str(code))


def signal_group(server: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, number)


def main() -> None:
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    # a handler instead of SIG_IGN, which the server would inherit
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    server = start(task, folder)
    waiter = threading.Thread(target=wait, args=(server, folder), daemon=True)
    waiter.start()
    try:
        sys.stdin.buffer.read()
    finally:
        signal_group(server, task["stop"])
        waiter.join(STOP_SECONDS)
        signal_group(server, signal.SIGKILL)
        waiter.join(STOP_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
