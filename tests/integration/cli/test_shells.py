"""Completion as it is typed: real shells on a terminal, with the script that we print."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bounds import HANGS
from tests.servers import missing

START = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}
BEFORE = {
    "bash": "bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; PS1='READY'",
    "zsh": "autoload -U compinit && compinit -D -u; unsetopt beep zle_bracketed_paste; PS1=READY",
}
LINES = [
    ("bridge export --to tens", "orboard"),
    ("bridges export --clock dur", "ation"),
    ("bridge verify --x-axis ep", "och"),
    ("bridge export my_out", "put/"),
    ("bridge inspect my_output/trai", "ner_state.json"),
    ("bridges migrate my_con", "fig.yaml"),
    ("bridge export x --logdir my_out", "put/"),
]


@contextmanager
def terminal(shell: str, folder: Path) -> Iterator[int]:
    """A shell on a terminal of its own; gives the terminal's descriptor."""
    if shutil.which(shell) is None:
        missing(shell, f"apt-get install {shell}")
    commands = folder / "bin"
    commands.mkdir()
    for name in ("bridge", "bridges"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bridges "$@"\n')
        (commands / name).chmod(0o755)
    environment = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TERM": "dumb",
        "ZDOTDIR": str(folder),
        "INPUTRC": "/dev/null",
    }
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [shell, *START[shell]],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield ours
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def read_until(terminal: int, wanted: str) -> str:
    """What the terminal shows, up to what is waited for."""
    shown, end = "", time.monotonic() + HANGS
    while wanted not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65_536).decode(errors="replace")
    assert wanted in shown, f"waited for {wanted!r}, and saw {shown!r}"
    return shown


@pytest.mark.parametrize("shell", [*START])
def test_what_tab_completes(shell: str, tmp_path: Path) -> None:
    (tmp_path / "my_output").mkdir()
    (tmp_path / "my_output" / "trainer_state.json").touch()
    (tmp_path / "my_config.yaml").touch()
    with terminal(shell, tmp_path) as screen:
        script = f"bridges completion {shell} > script; . ./script; echo DO''NE\n"
        os.write(screen, f"{BEFORE[shell]}\n{script}".encode())
        read_until(screen, "DONE")
        for typed, completed in LINES:
            os.write(screen, f"{typed}\t".encode())
            read_until(screen, completed)
            os.write(screen, b"\x15")  # empties the line
