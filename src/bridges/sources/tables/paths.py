"""Paths and URLs of tables: names, neighbours, and the first bytes of a file."""

from __future__ import annotations

import os
import posixpath
import zlib
from contextlib import suppress

from bridges.errors import SourceError
from bridges.sources.fetch import refuse_special
from bridges.sources.remote import opened
from bridges.sources.tables.recognise import HEAD_BYTES

GZIP = b"\x1f\x8b"


def is_url(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def folder_of(path: str) -> str:
    """The directory of a file; `.` for a name alone."""
    if is_url(path):
        return path.rpartition("/")[0]
    return os.path.dirname(path) or os.curdir


def name_in(path: str) -> str:
    """The name of a file or directory; empty for a root."""
    path = path if is_url(path) else os.path.abspath(path).replace(os.sep, "/")
    return path.rstrip("/").rpartition("/")[2]


def beside(path: str, name: str) -> str:
    """The path of another file, relative to the directory of a file."""
    return within(folder_of(path), name)


def within(folder: str, name: str) -> str:
    """The path of a file, relative to a directory; `name` may begin with `../`."""
    if is_url(folder):
        scheme, _, rest = folder.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(rest, name))}"
    return os.path.normpath(os.path.join(folder, name))


def exists(path: str) -> bool:
    """Whether a file exists; false if it is unknown."""
    if not is_url(path):
        return os.path.isfile(path)
    with suppress(Exception):  # deliberately broad: every file system raises its own errors
        files, own = opened(path)
        return bool(files.isfile(own))
    return False


def head_of(path: str, size: int = HEAD_BYTES) -> bytes:
    """The first bytes of a file, unpacked; empty if it cannot be read."""
    try:
        data = _remote_head(path, size) if is_url(path) else _local_head(path, size)
    except Exception:  # deliberately broad: reading the file reports the error
        return b""
    if not data.startswith(GZIP):
        return data
    with suppress(zlib.error):
        return zlib.decompressobj(wbits=31).decompress(data, size)
    return b""


def unreadable(path: str) -> SourceError | None:
    """The error for a local path without readable content: a pipe, a broken link, another's file;
    None for others, and for an empty file.
    """
    if is_url(path):
        return None
    try:
        refuse_special(path)
        with open(path, "rb") as file:
            if not file.read(1) or head_of(path):
                return None
        found = "gzip data that cannot be unpacked"
    except SourceError as error:
        return error
    except OSError as error:
        is_link = os.path.islink(path) and not os.path.exists(path)
        found = "a broken link" if is_link else f"a file that cannot be read ({error.strerror})"
        found = "a directory" if isinstance(error, IsADirectoryError) else found
    remedy = "Check its permissions and its content, or remove it."
    return SourceError(path, found=found, expected="a readable file", remedy=remedy)


def _local_head(path: str, size: int) -> bytes:
    if not os.path.isfile(path):  # reading a pipe may never end
        return b""
    with open(path, "rb") as file:
        return file.read(size)


def _remote_head(path: str, size: int) -> bytes:
    files, own = opened(path)
    with files.open(own, "rb") as file:
        return bytes(file.read(size))
