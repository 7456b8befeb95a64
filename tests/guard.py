"""Runs one server for as long as the pipe on stdin is open, then stops it and removes its folder.

The pipe closes however the tests end: at the end of a `with`, on an exception, on Ctrl-C (this
process has a session of its own and does not see it), and when pytest is killed outright. So no
server and no folder outlives the tests. Run as a script, with the standard library alone.
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
PATIENCE = 15.0  # seconds from the polite signal to the one that cannot be ignored


def start(task: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """The server in a session of its own, so that one signal reaches all its processes."""
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
    """Tell who waits for the server that it has ended."""
    code = server.wait()
    with contextlib.suppress(OSError):
        (folder / EXITED).write_text(str(code))


def signal_group(server: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, number)


def main() -> None:
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    # a handler, not SIG_IGN: the server would inherit that
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    server = start(task, folder)
    waiter = threading.Thread(target=wait, args=(server, folder), daemon=True)
    waiter.start()
    try:
        sys.stdin.buffer.read()
    finally:
        signal_group(server, task["stop"])
        waiter.join(PATIENCE)
        signal_group(server, signal.SIGKILL)
        waiter.join(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
