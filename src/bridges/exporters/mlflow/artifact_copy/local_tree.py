"""Artifacts in a local directory. Symbolic links are not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from stat import S_ISREG

from bridges.exporters.atomic_files import sync_directory, unlink, write_file
from bridges.exporters.mlflow.artifact_copy.trees import (
    CHUNK_BYTES,
    Content,
    Entry,
    FileError,
    check_path,
    digest_of,
)

PARTIAL = ".bridges-partial-"  # beside the root, where MLflow does not list it as an artifact
MAX_WRITERS = 8  # threads writing at the same time
IS_LINK = "it is a symbolic link, which is not followed: replace it by the file"


class LocalTree:
    """The files below the directory `root`, which may not exist."""

    parallel = True

    def __init__(self, root: str) -> None:
        self.root = root
        self._partials: SimpleQueue[str] = SimpleQueue()
        for path in _partials(root):
            self._partials.put(path)

    def entries(self) -> Iterator[Entry]:
        """All files by directory and name, and whatever cannot be read.

        Raises FileError if the root cannot be listed.
        """
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(os.path.join(self.root, folder)) as found:
                    names = sorted(found, key=lambda each: each.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                if not folder:
                    raise FileError(_reason(error)) from error
                yield Entry(folder, problem=_reason(error))
                continue
            for each in names:
                path = f"{folder}/{each.name}" if folder else each.name
                if each.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    yield _entry(path, each)

    def size(self, path: str) -> int | None:
        """The size of a file in bytes; None if it is missing or not a regular file."""
        try:
            status = os.lstat(self._at(path))
        except OSError:
            return None
        return status.st_size if S_ISREG(status.st_mode) else None

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file. Raises FileError."""
        with _system_errors():
            yield from read_chunks(self._at(path))

    def put(self, path: str, content: Content) -> None:
        """Write a file beside the tree, sync it, read it back, and rename it. Raises FileError."""
        goal = self._at(path)
        folder = os.path.dirname(goal)
        with _system_errors():
            if not is_below(folder, self.root):
                raise FileError("a symbolic link leads out of the directory of the copy")
            os.makedirs(folder, exist_ok=True)
            partial = self._partials.get()
            try:
                write_file(partial, content)
                if digest_of(read_chunks(partial)) != content.digest:
                    raise FileError("other bytes were read back than were written")
                os.replace(partial, goal)
            finally:
                unlink(partial)
                self._partials.put(partial)
            sync_directory(folder)

    def _at(self, path: str) -> str:
        check_path(path)
        return os.path.join(self.root, path)


def remove_leftovers(root: str) -> None:
    """Remove the unfinished files of a killed export. No other export may write into the tree."""
    for path in _partials(root):
        unlink(path)


def _partials(root: str) -> Iterator[str]:
    """The names of unfinished files, which are always the same ones."""
    return (os.path.join(os.path.dirname(root), f"{PARTIAL}{n}") for n in range(MAX_WRITERS))


def _entry(path: str, found: os.DirEntry[str]) -> Entry:
    try:
        if found.is_symlink():
            return Entry(path, problem=IS_LINK)
        if not found.is_file(follow_symlinks=False):
            return Entry(path, problem="it is not a regular file")
        return Entry(path, found.stat(follow_symlinks=False).st_size)
    except OSError as error:
        return Entry(path, problem=_reason(error))


def read_chunks(path: str) -> Iterator[bytes]:
    """The bytes of a file, which is not a symbolic link. Raises OSError."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def is_below(path: str, root: str) -> bool:
    """Whether a path leads to a directory or into it, with all symbolic links followed."""
    real, root = os.path.realpath(path), os.path.realpath(root)
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


@contextmanager
def _system_errors() -> Iterator[None]:
    """Raise OSErrors as FileError."""
    try:
        yield
    except OSError as error:
        raise FileError(_reason(error)) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
