"""Atomic file writing: write, sync, and rename."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from bridges.errors import ExportError

HAS_FLOCK = os.name == "posix"  # it can lock directories, and child processes inherit the lock


def publish_once(partial: str, path: str) -> None:
    """Rename a finished file. Raises FileExistsError if the name is in use."""
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


def put_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Store files (content by name) in a folder, each as a whole; equal ones stay untouched."""
    for name, content in files.items():
        path = os.path.join(folder, name)
        if _holds(path, content):
            continue
        os.makedirs(folder, exist_ok=True)
        partial = os.path.join(folder, f".{os.urandom(4).hex()}.partial")
        try:
            write_file(partial, [content])
            os.replace(partial, path)
        finally:
            unlink(partial)
        sync_directory(folder)


def _holds(path: str, content: bytes) -> bool:
    """Whether a file has this content."""
    try:
        with open(path, "rb") as file:
            return file.read() == content
    except FileNotFoundError:
        return False


def sync_file(path: str) -> None:
    """Sync the content of a file to disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Sync the names in a directory to disk."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def unlink(path: str) -> None:
    """Remove a file; errors are ignored."""
    with suppress(OSError):
        os.unlink(path)


@contextmanager
def system_errors(path: str, done: str = "written") -> Iterator[None]:
    """Raise OSErrors at a path or below it as ExportError; hidden files are not named."""
    try:
        yield
    except OSError as error:
        at = error.filename if isinstance(error.filename, str) else path
        if f"{os.sep}." in at.removeprefix(path):
            at = path
        raise ExportError(f"{at}: cannot be {done}: {_reason(at, error)}") from error


def _reason(path: str, error: OSError) -> str:
    path = os.path.abspath(path)
    for part in _parts(path):
        if os.path.islink(part) and not os.path.exists(part):
            return f"{part} is a link to {os.readlink(part)}, which does not exist"
        is_inner = part != path or isinstance(error, FileExistsError | NotADirectoryError)
        if is_inner and os.path.exists(part) and not os.path.isdir(part):
            return f"{part} is not a directory"
    return error.strerror or str(error)


def _parts(path: str) -> list[str]:
    """A path and its parent directories, the outermost first."""
    parent = os.path.dirname(path)
    return [*_parts(parent), path] if parent != path else [path]


@contextmanager
def only_one(name: str) -> Iterator[list[int]]:
    """Hold a per-user lock called `name`; other processes and threads wait.

    Yields file descriptors to pass to a child process, so the lock outlives this process if it is
    killed. `filelock` cannot do this and is used only on systems without `flock`.
    """
    import tempfile  # slow to import

    if not HAS_FLOCK:
        from filelock import FileLock

        with FileLock(os.path.join(tempfile.gettempdir(), f"bridges-{name}.lock")):
            yield []
        return
    import fcntl

    path = os.path.join(tempfile.gettempdir(), f"bridges-{os.getuid()}-{name}.lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # the previous owner removed it
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                break
        os.close(descriptor)
    try:
        yield [descriptor]
    finally:
        unlink(path)
        os.close(descriptor)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a file, which is created if needed; other processes and threads wait."""
    if not HAS_FLOCK:
        from filelock import FileLock

        with FileLock(path):
            yield
        return
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
