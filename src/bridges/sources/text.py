"""From a location to JSON text: fetch, decompress, unwrap, and name what is plainly no history.

Any failure is a SourceError that says what the file is instead.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Protocol

from bridges.errors import SourceError
from bridges.sources.gzip_members import TooLargeError, bound_of, gunzip
from bridges.sources.remote import opened
from bridges.sources.text_density import too_many_parts
from bridges.sources.zero_bytes import intact_part, is_torn, zero_bytes
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Provenance

EXPECTED = "a trainer_state.json, a list of log rows or JSON lines of log rows"
CUT_OFF_REMEDY = "The save was cut off: use an earlier checkpoint's file"
SALVAGE_REMEDY = f"{CUT_OFF_REMEDY}, or read its whole rows with --salvage."
LFS_POINTER = b"version https://git-lfs"
_TABLE_LINE = re.compile(rb"^\|[ \t]?(.*?)[ \t]*\|(?:[ \t]*\|)?[ \t]*$")
ZERO, NEWLINE = b"\0", b"\n"
MAX_STREAM_BYTES = 256 << 20  # bytes that a stream without a known end may give
GRACE_SECONDS = 30.0  # that a server may take however little it sends
MIN_BYTES_PER_SECOND = 1000  # bytes a second that a server must send after that
_CHUNK_BYTES = 1 << 20  # bytes read from a stream: one of the network may give fewer
_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"SQLite format 3": "an SQLite database",
}


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""


@dataclass
class Text:
    """JSON text as bytes (UTF-8 without BOM), where it came from and what was done to it."""

    data: bytes
    provenance: Provenance
    findings: list[Finding] = field(default_factory=list)


class MissingSourceError(SourceError):
    """There is nothing to read at the location: nothing at all, or only empty files."""


def load(location: str, *, salvage: bool = False, max_unpacked: int | None = None) -> Text:
    """The text at a path, an fsspec URL or `-` (standard input). Raises SourceError.

    A gzip file may unpack to `max_unpacked` bytes; by default to 100 times its own, or 64 MiB. A
    stream without a known end may give as many; by default 256 MiB.
    """
    raw = fetch(location, most_of_stream=max_unpacked or MAX_STREAM_BYTES)
    provenance = Provenance(location, len(raw), hashlib.sha256(raw).hexdigest())
    findings: list[Finding] = []
    data = unpacked(location, raw, salvage, findings, max_unpacked)
    data = data.removeprefix(b"\xef\xbb\xbf")
    _refuse_other_kinds(location, data)
    data = _without_zeros(location, data, salvage, findings)
    _refuse_dense(location, data)
    data = _unwrap_table(location, data, salvage)
    _refuse_empty(location, data)
    return Text(data, provenance, findings)


def unpacked(
    location: str,
    raw: bytes,
    salvage: bool,
    findings: list[Finding],
    max_unpacked: int | None = None,
) -> bytes:
    """The bytes themselves, or what they hold where they are gzip. Raises SourceError."""
    is_gzip = raw[:2] == b"\x1f\x8b"
    return _gunzip(location, raw, salvage, max_unpacked, findings) if is_gzip else raw


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


def _gunzip(
    location: str, data: bytes, salvage: bool, most: int | None, findings: list[Finding]
) -> bytes:
    """What all members of a gzip file hold; zeros may follow the last one."""
    bound = most or bound_of(len(data))
    try:
        content, whole = gunzip(data, bound)
    except zlib.error as error:
        raise _broken_gzip(location, error) from error
    except TooLargeError:
        raise SourceError(
            location,
            found=f"{len(data):,} bytes of gzip data that unpack to more than {bound:,}",
            expected="a log history",
            remedy="If it is one, allow more with --max-unpacked BYTES.",
        ) from None
    if not whole:
        findings.append(_truncated_gzip(location, salvage))
    return content


def _broken_gzip(location: str, error: zlib.error) -> SourceError:
    reason = str(error).rpartition(": ")[2]
    return SourceError(
        location,
        found=f"gzip data that is broken ({reason})",
        expected="a whole gzip file",
        remedy="Get the file again.",
    )


def _truncated_gzip(location: str, salvage: bool) -> Finding:
    if not salvage:
        raise SourceError(
            location,
            found="gzip data that ends too early",
            expected="a whole gzip file",
            remedy="Get the file again, or use --salvage to read what is there.",
        )
    message = "the gzip data ends too early; what was there is read"
    return Finding("gzip-truncated", Severity.WARNING, "end of file", message)


def _refuse_dense(location: str, data: bytes) -> None:
    count = too_many_parts(data)
    if count is not None:
        raise SourceError(
            location,
            found=f"{count:,} objects, lists or lines of a table in {len(data):,} bytes",
            expected=EXPECTED,
            remedy="This is not a log history: check which file you gave.",
        )


def _refuse_empty(location: str, data: bytes) -> None:
    if not data[:512].strip() and not data.strip():
        found, remedy = "an empty file", f"{CUT_OFF_REMEDY}."
        if location == "-":
            found, remedy = "no input", "Check the command that should write it."
        raise MissingSourceError(location, found=found, expected=EXPECTED, remedy=remedy)


def _without_zeros(location: str, data: bytes, salvage: bool, findings: list[Finding]) -> bytes:
    """The text less its zero bytes and what they cut, if it is to `salvage`. Raises SourceError."""
    found = zero_bytes(data)
    if found is None:
        return data
    place = f"line {data.count(NEWLINE, 0, data.index(ZERO)) + 1}"
    left = intact_part(data) if salvage else b""
    if not left.strip():
        only = not data.strip(ZERO)
        remedy = f"{CUT_OFF_REMEDY}." if only or salvage else SALVAGE_REMEDY
        raise SourceError(
            location, place="" if only else place, found=found, expected="text", remedy=remedy
        )
    lost = len(data) - data.count(ZERO) - len(left)
    message = f"{found}: {len(left):,} bytes of whole text are read, {lost:,} beside them are lost"
    findings.append(Finding("zero-bytes", Severity.WARNING, place, message))
    return left


def _refuse_other_kinds(location: str, data: bytes) -> None:
    head = data[:512].lstrip()
    if head[:1] == b"<":
        raise SourceError(
            location,
            found="an HTML or XML page",
            expected=EXPECTED,
            remedy="Download the raw file instead of the page that shows it.",
        )
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None and ZERO in head and not is_torn(data):
        kind = "binary data or UTF-16 text (it holds zero bytes)"
    if kind is not None:
        remedy = "Give the trainer_state.json as UTF-8 text (gzip is fine)."
        raise SourceError(location, found=kind, expected=EXPECTED, remedy=remedy)


def _unwrap_table(location: str, data: bytes, salvage: bool) -> bytes:
    """Text copied from a web page's table view: every line stands between bars.

    Blanks take the place of the first bar, so columns keep their numbers. `salvage` lets the last
    line end early.
    """
    if data.lstrip()[:1] != b"|":
        return data
    unwrapped = bytearray()
    lines = BytesIO(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n"))
    for number, line in enumerate(lines, 1):
        match = _TABLE_LINE.match(line)
        last = not line.endswith(b"\n")
        if match:
            unwrapped += b" " * match.start(1) + match[1] + b"\n"
        elif salvage and last and line[:1] == b"|":
            unwrapped += b" " + line[1:]
        elif line.strip():
            other = "use --salvage" if last else "take the bars out of every line"
            raise SourceError(
                location,
                place=f"line {number}",
                found=f"{line[:60].rstrip().decode(errors='replace')!r}",
                expected="a line between table bars `| … |`, as the first line is",
                remedy=f"Copy the whole table again, or {other}.",
            )
        else:
            unwrapped += b"\n"
    return bytes(unwrapped.removesuffix(b"\n"))
