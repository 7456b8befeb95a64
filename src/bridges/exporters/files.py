"""Files that appear whole or not at all: write, sync, and give the name in one step."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
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
