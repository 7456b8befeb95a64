"""Files that appear whole or not at all: write, sync, and give the name in one step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


def publish_once(partial: str, path: str) -> None:
    """Give a whole file its name. Raises FileExistsError where the name is taken."""
    try:
        os.link(partial, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:  # no hard links on this file system
        if os.path.exists(path):
            raise FileExistsError(path) from error
        os.rename(partial, path)


def write_file(path: str, content: Iterable[Any]) -> None:
    """Write and sync the pieces."""
    with open(path, "wb") as file:  # buffered: a raw write may stop short without an error
        for piece in content:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: str) -> None:
    """Make the names in a directory last."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def unlink(path: str) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


@contextmanager
def only_one(name: str) -> Iterator[list[int]]:
    """Only one process, and one thread, of this user at a time does what is called so.

    Gives the descriptors that a child process is to keep open, so that the lock lasts as long as
    the child where this process is killed.
    """
    if os.name != "posix":
        yield []
        return
    import fcntl

    path = os.path.join(tempfile.gettempdir(), f"bridges-{os.getuid()}-{name}.lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # the one before removed it
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                break
        os.close(descriptor)
    try:
        yield [descriptor]
    finally:
        unlink(path)
        os.close(descriptor)
