"""The bytes at a location: a local file, a pipe, standard input, a URL or a web address.

Any failure is a SourceError that says what the location is instead.
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
MAX_STREAM_BYTES = 256 << 20  # bytes that a stream without a known end may give
GRACE_SECONDS = 30.0  # that a server may take however little it sends
MIN_BYTES_PER_SECOND = 1000  # bytes a second that a server must send after that
_CHUNK_BYTES = 1 << 20  # bytes read from a stream: one of the network may give fewer


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""


class MissingSourceError(SourceError):
    """There is nothing to read at the location: nothing at all, or only empty files."""


def fetch(
    location: str,
    most: int | None = None,
    expected: str = EXPECTED,
    *,
    most_of_stream: int = MAX_STREAM_BYTES,
) -> bytes:
    """All bytes at a location. A file larger than `most` bytes is refused, and not read whole.

    Standard input, a pipe and a URL whose size is not known may give `most_of_stream` bytes.

    Raises SourceError, also for what is no regular file and for a git-LFS pointer. `expected` says
    in its message what the file should have been.
    """
    is_url = "://" in location
    data = (_fetch_url if is_url else _fetch_local)(location, most, most_of_stream)
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


def _fetch_local(location: str, most: int | None, most_of_stream: int) -> bytes:
    if location == "-":
        if sys.stdin is None:
            raise _missing(location, "standard input closed")
        return _read_stream(location, sys.stdin.buffer, most_of_stream)
    try:
        _refuse_special(location)
        with open(location, "rb") as file:
            if most is not None:
                return file.read(most + 1)
            is_stream = special_kind(os.fstat(file.fileno()).st_mode) is not None
            return _read_stream(location, file, most_of_stream) if is_stream else file.read()
    except FileNotFoundError:
        raise _missing(location, "nothing there") from None
    except IsADirectoryError:
        raise _is_directory(location) from None
    except ValueError:  # a NUL in it
        raise _missing(ascii(location)[1:-1], "a name that no file can have") from None
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", "") or str(error) or "it does not fit into memory"
        raise SourceError(
            location,
            found=f"a file that cannot be read ({why})",
            expected="a readable file",
            remedy="Check its permissions and its name.",
        ) from error


def _read_stream(location: str, stream: Readable, most: int) -> bytes:
    """All bytes of a stream whose length is not known. Raises SourceError for more than `most`."""
    data = b"".join(_parts(stream, most + 1))
    if len(data) > most:
        raise SourceError(
            location,
            found=f"more than {most:,} bytes from a stream without a known end",
            expected=EXPECTED,
            remedy="Save it to a file and name that, or allow more with --max-unpacked BYTES.",
        )
    return data


def _parts(stream: Readable, most: int) -> Iterator[bytes]:
    """The first `most` bytes of a stream, as it gives them."""
    while most > 0 and (part := stream.read(min(most, _CHUNK_BYTES))):
        yield part
        most -= len(part)


def _refuse_special(path: str) -> None:
    """Refuse pipes, devices and sockets: reading one may wait, or give bytes, for ever.

    Standard input and the pipes that a shell opens for `<(…)` are named on purpose.
    """
    kind = special_kind(os.stat(path).st_mode)
    if kind and not path.startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/")):
        raise SourceError(
            path,
            found=kind,
            expected="a regular file",
            remedy="Take it out of the directory, or read it through standard input.",
        )


def special_kind(mode: int) -> str | None:
    """The kind of a file that is neither regular nor a directory, by its mode."""
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode))


def _fetch_url(location: str, most: int | None, most_of_stream: int) -> bytes:
    import fsspec  # only here: most runs are local files
    from fsspec.exceptions import FSTimeoutError

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
    except FileNotFoundError:
        raise _missing(location, "nothing there") from None
    except IsADirectoryError:
        raise _is_directory(location) from None
    except ImportError as error:
        raise SourceError(
            location,
            found="a URL whose file system package is not installed",
            expected="one that fsspec can open",
            remedy=f"{str(error).rstrip('.')}.",
        ) from error
    except FSTimeoutError:
        raise _too_slow(location, "a server that stopped sending") from None
    except Exception as error:  # every file system raises its own errors
        if str(error).startswith("Protocol not known"):
            raise SourceError(
                location,
                found="a URL of an unknown kind",
                expected="one that fsspec can open",
                remedy="Use a protocol it knows, such as https, hf, s3, gs or memory.",
            ) from error
        raise SourceError(
            location,
            found=f"{type(error).__name__}: {error}",
            expected="a URL that can be read",
            remedy="Check the address and the credentials of its file system.",
        ) from error


def _fetch_http(location: str, most: int | None, most_of_stream: int) -> bytes:
    """The body of a web address, at most one byte more than `most`.

    It is read as a stream: the end that the server announced may not come.
    """
    files, path = opened(location)
    try:
        size = files.info(path).get("size")
    except FileNotFoundError as error:
        raise _refused(location, error.__cause__) from None
    with files.open(path, "rb", block_size=0, size=size) as stream:
        timed = _Timed(location, stream)
        if most is not None:
            return b"".join(_parts(timed, most + 1))
        return _read_stream(location, timed, max(most_of_stream, size or 0))


def _refused(location: str, cause: BaseException | None) -> SourceError:
    """The error for a web address. fsspec raises FileNotFoundError for every failed request."""
    status = getattr(cause, "status", None)
    if cause is None or status in (404, 410):
        return _missing(location, "nothing there")
    return SourceError(
        location,
        found=f"HTTP status {status}" if status else f"no answer ({cause})",
        expected="a URL that can be read",
        remedy="Check the address and the server, or download the file and name that.",
    )


class _Timed:
    """A stream with a minimum speed, `MIN_BYTES_PER_SECOND`, after `GRACE_SECONDS`."""

    def __init__(self, location: str, stream: Readable) -> None:
        self._location, self._stream = location, stream
        self._started, self._read = time.monotonic(), 0

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end. Raises SourceError where the stream is too slow."""
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
        expected="the whole file",
        remedy="Try again later, or download the file and name that.",
    )


def _missing(location: str, found: str) -> MissingSourceError:
    return MissingSourceError(
        location,
        found=found,
        expected=EXPECTED,
        remedy="Check the path; `-` reads standard input.",
    )


def _is_directory(location: str) -> SourceError:
    inside = os.path.join(location, "trainer_state.json")
    there = os.path.isfile(inside)
    remedy = f"Give the file: {inside}" if there else "Give the trainer_state.json inside it."
    return SourceError(location, found="a directory", expected=EXPECTED, remedy=remedy)
