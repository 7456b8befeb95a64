"""Locks between processes and threads, with `flock` and with `filelock` where that is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from bridges.exporters import atomic_files as files
from bridges.exporters.atomic_files import only_one
from bridges.exporters.wandb import folder as wandb_folder
from bridges.exporters.wandb.folder import STAGING, RunFolder
from tests.bounds import HANGS

Lock = Callable[[], AbstractContextManager[object]]
HOLDER = """
import subprocess, sys
from bridges.exporters.atomic_files import only_one
with only_one(sys.argv[1]) as inherited:
    sleeper = "import sys; print('held', flush=True); sys.stdin.read()"
    subprocess.run([sys.executable, "-c", sleeper], pass_fds=inherited)
"""


@pytest.fixture(params=[True, False], ids=["flock", "filelock"])
def has_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    for module in (files, wandb_folder):
        monkeypatch.setattr(module, "HAS_FLOCK", request.param)
    return bool(request.param)


@pytest.fixture(params=["name", "folder"])
def lock(request: pytest.FixtureRequest, has_flock: bool, tmp_path: Path) -> Lock:
    (tmp_path / STAGING).mkdir()
    if request.param == "name":
        return partial(only_one, f"test-{tmp_path.name}-{os.getpid()}")
    return RunFolder(str(tmp_path)).locked


def test_a_second_one_waits(lock: Lock) -> None:
    began, done = threading.Event(), threading.Event()

    def second() -> None:
        began.set()
        with lock():
            done.set()

    waiting = threading.Thread(target=second)
    with lock():
        waiting.start()
        assert began.wait(HANGS)
        assert not done.wait(0.2)
    waiting.join(HANGS)
    assert done.is_set()


def test_a_lock_is_free_after_an_error(lock: Lock) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), lock():
            raise KeyError


def test_to_look_into_a_folder_makes_nothing_in_it(has_flock: bool, tmp_path: Path) -> None:
    assert RunFolder(str(tmp_path / "missing")).newest() == []
    assert RunFolder(str(tmp_path)).newest() == []
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_folder_is_no_run(has_flock: bool, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    with folder.staged() as staged:
        folder.publish(staged, folder.new_name(0, "0123456789abcdef", []), "0123456789", [])
    assert len(folder.newest()) == 1


def test_a_lock_lasts_as_long_as_the_child_that_inherited_it(tmp_path: Path) -> None:
    name = f"test-{tmp_path.name}-{os.getpid()}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    free = threading.Event()

    def second() -> None:
        with only_one(name):
            free.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    assert not free.wait(0.2)
    holder.stdin.close()  # which ends the child
    waiting.join(HANGS)
    assert free.is_set()
    holder.stdout.close()
