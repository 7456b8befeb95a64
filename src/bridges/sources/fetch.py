"""Fetches the bytes at a location: a local file, a pipe, standard input, a URL or a web address.

Every failure is a SourceError.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from bridges.errors import SourceError
from bridges.sources.remote import opened

EXPECTED = "a trainer_state.json, a list of log rows or JSON lines of log rows"
LFS_POINTER = b"version https://git-lfs"
MAX_STREAM_BYTES = 256 << 20  # default limit for a stream of unknown length
GRACE_SECONDS = 30.0  # before a server's speed is checked
MIN_BYTES_PER_SECOND = 1000  # from a server, on average after the grace period
_CHUNK_BYTES = 1 << 20  # requested per read; a network stream may return fewer


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


class MissingSourceError(SourceError):
    """The location is missing, or has only empty files."""


def fetch(
    location: str,
    most: int | None = None,
    expected: str = EXPECTED,
    *,
    most_of_stream: int = MAX_STREAM_BYTES,
) -> bytes:
    """All bytes at a location, at most `most`; a larger file is rejected without reading all of it.

    `most_of_stream` limits standard input, pipes and URLs of unknown size. `expected` describes the
    file in error messages. Raises SourceError, also for special files and git-LFS pointers.
    """
    is_url = "://" in location
    if is_url:
        data = _fetch_url(location, most, most_of_stream)
    else:
        data = _fetch_local(location, most, most_of_stream, expected)
    if most is not None and len(data) > most:
        raise SourceError(
            location,
            found=f"more than {most:,} bytes",
            expected=expected,
            remedy="Check which file this is.",
        )
    if data.startswith(LFS_POINTER):
        raise SourceError(
            location,
            found="a git-LFS pointer, not the file itself",
            expected=expected,
            remedy="Run `git lfs pull` in its repository.",
        )
    return data


def _fetch_local(location: str, most: int | None, most_of_stream: int, expected: str) -> bytes:
    if location == "-":
        if sys.stdin is None:
            raise _missing(location, "standard input closed", expected)
        return _read_stream(location, sys.stdin.buffer, most_of_stream)
    try:
        refuse_special(location)
        with open(location, "rb") as file:
            if most is not None:
                return file.read(most + 1)
            is_stream = special_kind(os.fstat(file.fileno()).st_mode) is not None
            return _read_stream(location, file, most_of_stream) if is_stream else file.read()
    except FileNotFoundError:
        raise _missing(location, "nothing there", expected) from None
    except IsADirectoryError:
        raise _is_directory(location) from None
    except ValueError:  # a NUL character
        raise _missing(ascii(location)[1:-1], "an invalid file name", expected) from None
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", "") or str(error) or "it does not fit into memory"
        raise SourceError(
            location,
            found=f"a file that cannot be read ({why})",
            expected="a readable file",
            remedy="Check its permissions and its name.",
        ) from error


def _read_stream(location: str, stream: Readable, most: int) -> bytes:
    """All bytes of a stream of unknown length. Raises SourceError for more than `most`."""
    data = b"".join(_parts(stream, most + 1))
    if len(data) > most:
        raise SourceError(
            location,
            found=f"more than {most:,} bytes from a stream of unknown length",
            expected=EXPECTED,
            remedy="Save it to a file and export that, or allow more with --max-unpacked BYTES.",
        )
    return data


def _parts(stream: Readable, most: int) -> Iterator[bytes]:
    """The first `most` bytes of a stream in chunks."""
    while most > 0 and (part := stream.read(min(most, _CHUNK_BYTES))):
        yield part
        most -= len(part)


def refuse_special(path: str) -> None:
    """Raise SourceError for pipes, devices and sockets: reading one may never end.

    Standard input and the pipes of a shell's `<(…)` are allowed.
    """
    kind = special_kind(os.stat(path).st_mode)
    if kind and not path.startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/")):
        raise SourceError(
            path,
            found=kind,
            expected="a regular file",
            remedy="Remove it from the directory, or read it through standard input.",
        )


def special_kind(mode: int) -> str | None:
    """The kind of a special file by its mode; None for regular files and directories."""
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode))


def _fetch_url(location: str, most: int | None, most_of_stream: int) -> bytes:
    import fsspec  # here only: most runs are local files

    try:
        if location.lower().startswith(("http://", "https://")):
            return _fetch_http(location, most, most_of_stream)
        with fsspec.open(location, "rb") as file:
            if most is not None:
                return bytes(file.read(most + 1))
            has_end = isinstance(getattr(file, "size", None), int)
            return bytes(file.read() if has_end else _read_stream(location, file, most_of_stream))
    except SourceError:
        raise
    except Exception as error:  # every file system raises its own errors
        raise _url_error(location, error) from error


def _url_error(location: str, error: Exception) -> SourceError:
    """The SourceError for an exception of fsspec or of one of its file systems."""
    from fsspec.exceptions import FSTimeoutError

    if isinstance(error, FileNotFoundError):
        return _missing(location, "nothing there")
    if isinstance(error, IsADirectoryError):
        return _is_directory(location)
    if isinstance(error, FSTimeoutError):
        return _too_slow(location, "a server that stopped sending")
    found, expected = f"{type(error).__name__}: {error}", "a readable URL"
    remedy = "Check the address and the credentials of its file system."
    if isinstance(error, ImportError):
        found = "a URL whose file system package is not installed"
        expected, remedy = "a URL that fsspec can open", f"{str(error).rstrip('.')}."
    elif str(error).startswith("Protocol not known"):
        found, expected = "a URL with an unknown protocol", "a URL that fsspec can open"
        remedy = "Use a supported protocol, such as https, hf, s3, gs or memory."
    return SourceError(location, found=found, expected=expected, remedy=remedy)


def _fetch_http(location: str, most: int | None, most_of_stream: int) -> bytes:
    """The body of a web address, at most one byte more than `most`.

    It is read as a stream, because the body may be longer than its announced length.
    """
    files, path = opened(location)
    try:
        size = files.info(path).get("size")
    except FileNotFoundError as error:
        raise _http_error(location, error.__cause__) from None
    with files.open(path, "rb", block_size=0, size=size) as stream:
        timed = _Timed(location, stream)
        if most is not None:
            return b"".join(_parts(timed, most + 1))
        return _read_stream(location, timed, max(most_of_stream, size or 0))


def _http_error(location: str, cause: BaseException | None) -> SourceError:
    """The error for a web address, by `cause`: fsspec raises FileNotFoundError for any failure."""
    status = getattr(cause, "status", None)
    if cause is None or status in (404, 410):
        return _missing(location, "nothing there")
    return SourceError(
        location,
        found=f"HTTP status {status}" if status else f"no answer ({cause})",
        expected="a readable URL",
        remedy="Check the address and the server, or download the file and export that.",
    )


class _Timed:
    """A stream with a minimum speed, `MIN_BYTES_PER_SECOND`, after `GRACE_SECONDS`."""

    def __init__(self, location: str, stream: Readable) -> None:
        self._location, self._stream = location, stream
        self._started, self._read = time.monotonic(), 0

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end. Raises SourceError if the stream is too slow."""
        part = self._stream.read(size)
        self._read += len(part)
        seconds = time.monotonic() - self._started
        if part and seconds > GRACE_SECONDS + self._read / MIN_BYTES_PER_SECOND:
            found = f"a server that sent {self._read:,} bytes in {seconds:.0f} seconds"
            raise _too_slow(self._location, found)
        return part


def _too_slow(location: str, found: str) -> SourceError:
    return SourceError(
        location,
        found=found,
        expected="the complete file",
        remedy="Try again later, or download the file and export that.",
    )


def _missing(location: str, found: str, expected: str = EXPECTED) -> MissingSourceError:
    return MissingSourceError(
        location,
        found=found,
        expected=expected,
        remedy="Check the path; `-` reads standard input.",
    )


def _is_directory(location: str) -> SourceError:
    inside = os.path.join(location, "trainer_state.json")
    exists = os.path.isfile(inside)
    remedy = f"Give the file: {inside}" if exists else "Give the trainer_state.json inside it."
    return SourceError(location, found="a directory", expected=EXPECTED, remedy=remedy)
